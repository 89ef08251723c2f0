use postern_model::Timestamp;
use proptest::prelude::*;

use super::*;

fn data() -> Value {
    Value::map([
        ("Run", Value::map([("ID", Value::text("ca1")), ("Registry", Value::text("r.azurecr.io"))])),
        (
            "Values",
            Value::map([
                ("image", Value::text("app")),
                ("n", Value::Int(3)),
                ("f", Value::Float(1.5)),
                ("list", Value::list([Value::text("a"), Value::text("b")])),
                ("deep", Value::map([("x", Value::text("y")), ("z", Value::Bool(true))])),
            ]),
        ),
        ("Secrets", Value::map([("key", Value::secret("s3cret"))])),
    ])
}

fn now() -> Timestamp {
    Timestamp::from_unix_micros(1_795_308_729_630_001)
}

fn check(template: &str, expected: &str) {
    let found = render(template, &data(), now()).map_or_else(|error| format!("! {error}"), |rendered| rendered.text);
    assert_eq!(found, expected, "{template}");
}

#[test]
fn values_and_blocks() {
    check("plain", "plain");
    check("{{.Run.ID}}-{{ .Values.image }}", "ca1-app");
    check("{{$.Run.ID}} {{.Values.missing}}|<no value>|", "ca1 ||");
    check("a {{- 1 -}} b {{/* no */}}c {{- /* no */ -}} d", "a1b cd");
    check("{{ if eq .Values.n 3 }}three{{ else }}other{{ end }}", "three");
    check("{{ if .Values.no }}a{{ else if .Values.n }}b{{ else }}c{{ end }}", "b");
    check("{{ range .Values.list }}<{{.}}>{{ end }}", "<a><b>");
    check("{{ range $i, $v := .Values.list }}{{$i}}={{$v}};{{ end }}", "0=a;1=b;");
    check("{{ range $k, $v := .Values.deep }}{{$k}}={{$v}};{{ end }}", "x=y;z=true;");
    check("{{ range .Values.none }}x{{ else }}none{{ end }}", "none");
    check("{{ range $i, $v := .Values.list }}{{ if $i }}{{ break }}{{ end }}{{$v}}{{ end }}", "a");
    check("{{ range $i, $v := .Values.list }}{{ if not $i }}{{ continue }}{{ end }}{{$v}}{{ end }}", "b");
    check("{{ with .Values.deep }}{{.x}}{{ end }}{{ with .Values.no }}x{{ else }}-{{ end }}", "y-");
    check("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ end }}{{ $x }}", "2");
    check("{{ $x := .Values.deep }}{{ $x.x }} {{ (index .Values \"deep\").x }}", "y y");
    check("{{ .Values.list }} {{ .Values.deep }} {{ .Values.f }} {{ 1e21 }}", "[a b] map[x:y z:true] 1.5 1e+21");
    check("{{ print 1 2 \"a\" 3 nil }}", "1 2a3 <nil>");
    check("{{ `raw\\n` }}{{ 'a' }}{{ 0x10 }}{{ \"q\\\"\\u00e9\" }}", "raw\\n9716q\"é");
    check("{{ and 1 0 2 }}{{ or 0 \"\" 5 }}{{ not 1 }}", "05false");
    check("{{ or true (fail \"never\") }}", "true");
    check("{{ eq 1 2 3 1 }}{{ ne 1 2 }}{{ lt 1 2 }}{{ ge \"b\" \"a\" }}", "truetruetruetrue");
    check("{{ len .Values.list }}{{ len \"abc\" }}{{ slice \"abcd\" 1 3 }}", "23bc");
}

#[test]
fn functions() {
    check("{{ \" A b \" | trim | lower | quote }}{{ upper \"x\" }}{{ title \"a bc\" }}", "\"a b\"XA Bc");
    check(
        "{{ replace \"-\" \"_\" \"a-b-c\" }} {{ contains \"b\" \"abc\" }} {{ hasPrefix \"a\" \"abc\" }}",
        "a_b_c true true",
    );
    check("{{ .Values.image | trunc 2 }}{{ trunc -1 \"abc\" }} {{ substr 1 3 \"abcd\" }}", "apc bc");
    check("{{ nindent 2 \"a\\nb\" }}|{{ indent 1 \"a\\nb\" }}", "\n  a\n  b| a\n b");
    check("{{ join \",\" .Values.list }} {{ splitList \".\" \"a.b\" }} {{ (split \".\" \"a.b\")._1 }}", "a,b [a b] b");
    check("{{ repeat 3 \"ab\" }} {{ cat 1 nil \"b\" }} {{ squote 5 }}", "ababab 1 b '5'");
    check("{{ trimPrefix \"a\" \"abc\" }}{{ trimSuffix \"c\" \"abc\" }}{{ trimAll \"$\" \"$5$\" }}", "bcab5");
    check("{{ default \"d\" .Values.no }}{{ .Values.n | default 5 }}{{ coalesce 0 \"\" 7 }}", "d37");
    check("{{ ternary \"y\" \"n\" (empty .Values.no) }}{{ first (list 1 2) }}{{ last (list 1 2) }}", "y12");
    check("{{ $d := dict \"a\" 1 \"b\" 2 }}{{ get $d \"a\" }}{{ hasKey $d \"c\" }}{{ keys $d }}", "1false[a b]");
    check(
        "{{ add 1 2 3 }} {{ sub 5 2 }} {{ mul 2 3 }} {{ div 7 2 }} {{ mod 7 2 }} {{ max 1 9 }} {{ min 4 2 }}",
        "6 3 6 3 1 9 2",
    );
    check("{{ int \"42\" }} {{ add1 1 }} {{ toString 5 | len }} {{ until 3 }}", "42 2 1 [0 1 2]");
    check("{{ b64enc \"hi\" }} {{ b64dec \"aGk=\" }}", "aGk= hi");
    check("{{ sha256sum \"abc\" | trunc 8 }}", "ba7816bf");
    check(
        "{{ now | date \"20060102-150405z\" }} {{ date \"Mon Jan _2 3:04 PM\" 0 }}",
        "20261122-005209z Thu Jan  1 12:00 AM",
    );
    check("{{ regexMatch \"^a+$\" \"aaa\" }} {{ regexReplaceAll \"a(x*)b\" \"-ab-axxb-\" \"${1}W\" }}", "true -W-xxW-");
    check("{{ toJson .Values.deep }} {{ (fromJson \"{\\\"a\\\":[1]}\").a }}", r#"{"x":"y","z":true} [1]"#);
    check("{{ uniq (list 1 2 1) }} {{ sortAlpha (list \"b\" \"a\") }} {{ has 1 (list 1) }}", "[1 2] [a b] true");
    check(
        "{{ printf \"%s-%d-%05.2f|%-4s|%4d|%q|%v|%t|%x\" \"a\" 7 1.5 \"b\" 3 \"c\" .Values.list true 255 }}",
        "a-7-01.50|b   |   3|\"c\"|[a b]|true|ff",
    );
    check("{{ printf \"%s %d\" 1 }}{{ printf \"x\" 2 }}", "%!s(int=1) %!d(MISSING)x%!(EXTRA int=2)");
    check("{{ html \"<a>\" }} {{ urlquery \"a b&\" }} {{ js \"'\" }}", "&lt;a&gt; a+b%26 \\'");
}

#[test]
fn what_is_wrong_and_where() {
    check(
        "a\n {{ .Values.no.x }}",
        "! line 2, column 5: nil pointer evaluating interface {}.x: what it is looked up in is not there",
    );
    check("{{ .Run.ID.x }}", "! line 1, column 4: can't evaluate field x in type string");
    check("{{ nope 1 }}", "! line 1, column 4: function \"nope\" not defined");
    check("{{ $x }}", "! line 1, column 4: undefined variable \"$x\"");
    check("a {{ if true }}b", "! line 1, column 3: unexpected end of the text: {{if}} has no {{end}}");
    check("{{ end }}", "! line 1, column 1: unexpected {{end}}");
    check("{{ if true }}{{ else }}{{ else }}{{ end }}", "! line 1, column 24: unexpected {{else}}");
    check("{{ .Run.ID", "! line 1, column 1: unclosed action");
    check("{{ (1 }}", "! line 1, column 7: unclosed left paren");
    check("{{ 1 | 2 }}", "! line 1, column 8: what stands after | has to be a function");
    check("{{ \"a }}", "! line 1, column 4: unterminated quoted string");
    check("{{ }}", "! line 1, column 4: missing value for command");
    check("{{ upper 1 }}", "! line 1, column 4: error calling upper: wrong type for value; expected string; got int");
    check("{{ upper }}", "! line 1, column 4: wrong number of args for upper: want 1 got 0");
    check(
        "{{ eq 1 \"1\" }}",
        "! line 1, column 4: error calling eq: incompatible types for comparison: int and string",
    );
    check("{{ index .Values.list 2 }}", "! line 1, column 4: error calling index: index out of range: 2");
    check("{{ fail \"no\" }}", "! line 1, column 4: error calling fail: no");
    check("{{ div 1 0 }}", "! line 1, column 4: error calling div: integer divide by zero");
    check("{{ define \"x\" }}{{ end }}", "! line 1, column 1: {{define}} is not supported in a task file");
    check("{{ break }}", "! line 1, column 1: {{break}} outside {{range}}");
    check("{{ repeat 10000000 \"a\" }}", "! line 1, column 4: error calling repeat: the text becomes too long");
    check(&"{{ if true }}".repeat(65), "! line 1, column 839: blocks or brackets lie more than 64 deep in one another");
    check(
        "{{ range until 10000 }}{{ range until 10000 }}{{ range until 10000 }}{{ end }}{{ end }}{{ end }}",
        "! line 1, column 56: the template is too much work",
    );
    check(
        "{{ $x := repeat 1000000 \"a\" }}{{ $x }}{{ $x }}",
        "! line 1, column 42: the text becomes longer than 1048576 bytes",
    );
}

#[test]
fn what_is_made_of_secrets_is_known() {
    let secrets = |template: &str| -> Vec<String> {
        let rendered = render(template, &data(), now()).unwrap();
        rendered.secrets.iter().map(|secret| secret.expose().to_owned()).collect()
    };
    assert_eq!(secrets("{{ .Secrets.key }}{{ .Values.image }}"), ["s3cret"]);
    assert_eq!(secrets("{{ b64enc .Secrets.key }}"), ["czNjcmV0"]);
    assert_eq!(secrets("{{ printf \"u:%s\" .Secrets.key | upper }}"), ["U:S3CRET"]);
    assert_eq!(secrets("{{ $x := list .Secrets.key 1 }}{{ index $x 1 }}"), Vec::<String>::new());
    assert_eq!(secrets("{{ toJson .Secrets }}"), [r#"{"key":"s3cret"}"#]);
    assert_eq!(secrets("{{ .Values.no | default .Secrets.key }}"), ["s3cret"]);
    assert_eq!(secrets("{{ if .Secrets.key }}x{{ end }}"), Vec::<String>::new());
}

/// The guide names them all, and no other.
#[test]
fn every_function_is_in_the_guide() {
    let guide = include_str!("../../../../docs/guides/task-files.md");
    let rows = guide
        .lines()
        .skip_while(|line| !line.contains("| functions |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let listed = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).flat_map(str::split_whitespace);
    let listed: std::collections::BTreeSet<&str> = listed.collect();
    assert_eq!(listed, functions::names().collect());
    let example = guide.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    crate::check(example).unwrap();
}

proptest! {
    #[test]
    fn text_without_actions_stays(text in "[^{}]{0,200}") {
        prop_assert_eq!(render(&text, &data(), now()).unwrap().text, text.replace("<no value>", ""));
    }

    #[test]
    fn literals_come_out_as_they_went_in(text in any::<String>().prop_filter("what is removed", |text| !text.contains("<no value>"))) {
        let template = format!("{{{{ {} }}}}", super::format::quote(&text));
        prop_assert_eq!(render(&template, &data(), now()).unwrap().text, text);
    }

    #[test]
    fn nothing_panics(template in "(\\{\\{-? ?|-?\\}\\}|if|end|range|else|\\$x|:=|=|\\.Values|\\.list| |\\(|\\)|\\||,|printf|\"%d\"|1|index|with){0,30}") {
        let _ = render(&template, &data(), now());
    }
}
