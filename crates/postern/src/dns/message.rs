//! From the bytes of a question to the bytes of its answer.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

use super::Answer;
use super::name::{Asked, asked};

/// Largest question that is read. One name of at most 255 bytes and a few options are all that a question has.
pub(crate) const MAX_QUESTION_BYTES: usize = 1232;
/// Largest answer over UDP to a client that takes more than the first specification's 512 bytes.
const MAX_DATAGRAM_BYTES: u16 = 1232;
const FIRST_DATAGRAM_BYTES: u16 = 512;
/// A question may carry its options and a signature beside it, no more.
const MAX_ADDITIONAL_RECORDS: u16 = 2;
/// How long the zone's own record says that a failed transfer is waited for; nobody transfers this zone.
const TRANSFER_SECONDS: i32 = 3600;

/// The zone that answers are made for.
#[derive(Debug, Clone)]
pub struct Zone {
    suffix: String,
    name: Name,
    ttl_seconds: u32,
    start: SOA,
}

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer must fit into one.
    Datagram,
    /// On a connection.
    Connection,
}

impl Zone {
    /// The zone of a suffix, in lower case and without the dot at its end.
    pub fn new(suffix: &str, ttl_seconds: u32) -> anyhow::Result<Self> {
        let name = Name::from_ascii(format!("{suffix}."))?;
        let master = name.prepend_label("dns")?;
        let start = SOA::new(
            master,
            name.prepend_label("hostmaster")?,
            1,
            TRANSFER_SECONDS,
            TRANSFER_SECONDS,
            TRANSFER_SECONDS,
            ttl_seconds,
        );
        Ok(Self { suffix: suffix.to_owned(), name, ttl_seconds, start })
    }

    fn record(&self, name: Name, data: impl Into<RData>) -> Record {
        Record::from_rdata(name, self.ttl_seconds, data.into())
    }
}

/// Answers a question; `look` says where a name leads. Nothing for what is no question: an answer to an answer would come back.
pub fn respond(
    zone: &Zone,
    question: &[u8],
    transport: Transport,
    look: impl FnOnce(&Asked) -> Answer,
) -> Option<Vec<u8>> {
    if question.len() > MAX_QUESTION_BYTES {
        return None;
    }
    let header = Header::read(&mut BinDecoder::new(question)).ok()?;
    if header.metadata.message_type != MessageType::Query {
        return None;
    }
    if header.metadata.op_code != OpCode::Query {
        return encode(&blank(&header.metadata, ResponseCode::NotImp), FIRST_DATAGRAM_BYTES);
    }
    // Counts come first: what they announce is not made room for.
    let counts = header.counts;
    let simple = (counts.queries, counts.answers, counts.authorities) == (1, 0, 0);
    let question = Message::from_vec(question).ok().filter(|_| simple && counts.additionals <= MAX_ADDITIONAL_RECORDS);
    let Some(question) = question else {
        return encode(&blank(&header.metadata, ResponseCode::FormErr), FIRST_DATAGRAM_BYTES);
    };
    let answer = answer(zone, &question, look)?;
    let most = match (transport, &question.edns) {
        (Transport::Connection, _) => u16::MAX,
        (Transport::Datagram, None) => FIRST_DATAGRAM_BYTES,
        (Transport::Datagram, Some(edns)) => edns.max_payload().clamp(FIRST_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES),
    };
    encode(&answer, most)
}

fn answer(zone: &Zone, question: &Message, look: impl FnOnce(&Asked) -> Answer) -> Option<Message> {
    let query = question.queries.first()?;
    let mut answer = blank(&question.metadata, ResponseCode::NoError);
    answer.add_query(query.clone());
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM_BYTES);
        answer.set_edns(edns);
    }
    if question.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        answer.metadata.response_code = ResponseCode::BADVERS;
        return Some(answer);
    }
    let found = match (query.query_class(), text(query.name())) {
        (DNSClass::IN, Some(name)) => look(&asked(&name, &zone.suffix)),
        _ => Answer::Refused,
    };
    let apex = zone.name == *query.name();
    answer.metadata.authoritative = found != Answer::Refused;
    match found {
        Answer::Refused => answer.metadata.response_code = ResponseCode::Refused,
        Answer::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Answer::Nothing => {}
        Answer::Addresses { linked, addresses } => {
            let mut name = query.name().clone();
            if linked {
                let target = private_name(&name, &zone.name)?;
                answer.add_answer(zone.record(name, RData::CNAME(CNAME(target.clone()))));
                name = target;
            }
            for address in addresses.iter().filter(|address| wants(query.query_type(), address)) {
                answer.add_answer(zone.record(name.clone(), *address));
            }
        }
    }
    let start = || zone.record(zone.name.clone(), RData::SOA(zone.start.clone()));
    let settled = |record: &Record| record.record_type() == query.query_type() || is_address(record.record_type());
    if apex && query.query_type() == RecordType::SOA {
        answer.add_answer(start());
    } else if answer.metadata.authoritative && !answer.answers.iter().any(settled) {
        // So that whoever asks knows how long there will be nothing.
        answer.add_authority(start());
    }
    Some(answer)
}

/// `<registry>.<suffix>` and `<registry>.<region>.data.<suffix>`, each with `privatelink` before the suffix.
fn private_name(name: &Name, zone: &Name) -> Option<Name> {
    let below = usize::from(name.num_labels()).checked_sub(usize::from(zone.num_labels()))?;
    let labels = name.iter().take(below);
    Name::from_labels(labels.chain([b"privatelink".as_slice()]).chain(zone.iter())).ok()
}

const fn is_address(kind: RecordType) -> bool {
    matches!(kind, RecordType::A | RecordType::AAAA)
}

fn wants(kind: RecordType, address: &IpAddr) -> bool {
    match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        kind => kind == RecordType::ANY,
    }
}

/// The name in lower case without the dot at its end; nothing for one that is not written as host names are.
fn text(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name {
        if !label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*')) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
    }
    Some(text)
}

fn blank(question: &Metadata, code: ResponseCode) -> Message {
    let mut message = Message::response(question.id, question.op_code);
    message.metadata = Metadata::response_from_request(question);
    message.metadata.response_code = code;
    message
}

/// Nothing when it cannot be written; without its records, and saying so, when it is too large.
fn encode(message: &Message, most: u16) -> Option<Vec<u8>> {
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= usize::from(most) { Some(bytes) } else { message.truncate().to_vec().ok() }
}
