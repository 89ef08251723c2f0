#!/bin/sh
# Virtual networks that all use 10.0.0.0/16, an office and the internet around one server, on one machine. Run inside network and
# mount namespaces of its own, so that nothing of it is left behind. Arguments: the server's binary, an empty folder.
set -eu
postern=$1
cd "$2"

mount -t tmpfs none /run
ip link set lo up

# A bridge per network; in each a client with the same address. `ports` is where the server is: here, or in a namespace.
network() { # name, server's address, client's address
    ip link add "br-$1" type bridge
    ip link set "br-$1" up
    ip addr add "$2" dev "br-$1"
    ip netns add "$1"
    ip link add "to-$1" type veth peer name eth0 netns "$1"
    ip link set "to-$1" master "br-$1" up
    ip -n "$1" addr add "$3" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" link set lo up
    echo 2 > "/proc/sys/net/ipv4/conf/br-$1/rp_filter"
}
network internet 203.0.113.10/24 203.0.113.9/24
network first 10.0.0.4/16 10.0.0.9/16
network second 10.0.0.4/16 10.0.0.9/16
# The third network's listener is in a namespace of its own, where no other network is.
ip netns add edge
ip netns add third
ip link add eth0 netns edge type veth peer name eth0 netns third
for end in edge:10.0.0.4 third:10.0.0.9; do
    ip -n "${end%:*}" addr add "${end#*:}/16" dev eth0
    ip -n "${end%:*}" link set eth0 up
    ip -n "${end%:*}" link set lo up
done

endpoints=/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/postern/providers/Microsoft.Network/privateEndpoints
cat > postern.toml <<END
[server]
listen = ["127.0.0.1:443", "203.0.113.10:443"]
suffix = "azurecr.io"
first_registry = "acme1"
subscription_id = "00000000-0000-4000-8000-000000000001"
[dns]
listen = ["203.0.113.10:53"]
public_addresses = ["203.0.113.10"]
END
for place in first:interface:br-first second:interface:br-second third:namespace:/run/netns/edge; do
    rest=${place#*:}
    cat >> postern.toml <<END
[[place]]
name = "${place%%:*}"
peers = ["10.0.0.0/16"]
listen = "10.0.0.4"
dns_listen = "10.0.0.4:53"
${rest%%:*} = "${rest#*:}"
private_endpoint = "$endpoints/${place%%:*}"
END
done

mkfifo ready
"$postern" serve --config postern.toml --data data > ready &
server=$!
trap 'kill $server; wait $server' EXIT
read -r line < ready
echo "$line" | grep -q "postern is ready" || exit 1

connect() { # endpoint, registry, status
    cat > connect.json <<END
{"type": "Microsoft.ContainerRegistry/registries/privateEndpointConnections", "apiVersion": "2025-11-01",
 "id": "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/postern/providers/Microsoft.ContainerRegistry/registries/$2/privateEndpointConnections/$1",
 "name": "$1",
 "properties": {"privateEndpoint": {"id": "$endpoints/$1"}, "privateLinkServiceConnectionState": {"status": "$3"}}}
END
    "$postern" apply --server data -f connect.json > applied
}
close() { # registry
    cat > closed.json <<END
{"type": "Microsoft.ContainerRegistry/registries", "apiVersion": "2025-11-01", "name": "$1", "location": "eastus",
 "id": "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/postern/providers/Microsoft.ContainerRegistry/registries/$1",
 "sku": {"name": "Premium"}, "properties": {"publicNetworkAccess": "Disabled"}}
END
    "$postern" apply --server data -f closed.json > applied
}

# In a network's namespace, with the server as its resolver.
within() { # network, resolver, command
    echo "nameserver $2" > resolv.conf
    echo 'hosts: dns' > nsswitch.conf
    shift_to=$1
    shift 2
    ip netns exec "$shift_to" unshare --mount sh -c '
        mount --bind resolv.conf /etc/resolv.conf
        mount --bind nsswitch.conf /etc/nsswitch.conf
        exec "$@"' - "$@"
}
resolver() { if [ "$1" = internet ]; then echo 203.0.113.10; else echo 10.0.0.4; fi; }
address() { # network, registry
    found=$(within "$1" "$(resolver "$1")" getent ahostsv4 "$2.azurecr.io" | awk '{print $1; exit}')
    echo "$1 finds $2 at ${found:-nothing}"
}
ping() { # network, registry, further arguments of curl
    from=$1 to=$2
    shift 2
    status=$(within "$from" "$(resolver "$from")" curl --silent --output answer --write-out '%{http_code}' \
        --cacert data/trust/ca.crt --max-time 20 "$@" "https://$to.azurecr.io/v2/" || true)
    echo "$from to $to: $status"
}

close acme1
close other
echo "# nothing is approved"
address first acme1
address internet acme1
ping internet acme1
ping first acme1 --resolve acme1.azurecr.io:443:10.0.0.4

echo "# first is approved for acme1, second for other, third for both"
connect first acme1 Approved
connect second other Approved
connect third acme1 Approved
connect third other Approved
for from in first second third internet; do
    address $from acme1
    address $from other
done
ping first acme1
ping second other
ping third acme1
ping third other
ping internet acme1
echo "# by address, whatever the names say"
ping first other --resolve other.azurecr.io:443:10.0.0.4
ping second acme1 --resolve acme1.azurecr.io:443:10.0.0.4

echo "# first is rejected"
connect first acme1 Rejected
address first acme1
ping first acme1 --resolve acme1.azurecr.io:443:10.0.0.4
