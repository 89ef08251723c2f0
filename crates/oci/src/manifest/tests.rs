use serde_json::{Value, json};

use super::*;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn descriptor(size: u64) -> Value {
    json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": format!("sha256:{}", "a".repeat(64)), "size": size})
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{}", "c".repeat(64)), "size": 7},
        "layers": [descriptor(100), descriptor(1000)],
    })
}

fn with(mut value: Value, key: &str, field: Value) -> Value {
    value[key] = field;
    value
}

fn read(content_type: &str, value: &Value) -> Result<Parsed, Problem> {
    parse(Some(content_type), value.to_string().into(), Algorithm::Sha256)
}

#[track_caller]
fn check(content_type: &str, value: Value, expected: Result<(), &str>) {
    match (read(content_type, &value), expected) {
        (Ok(parsed), Ok(())) => assert_eq!(parsed.facts.bytes, value.to_string(), "the bytes stay as they are"),
        (Err(Problem(text)), Err(expected)) => assert!(text.contains(expected), "{text:?} does not say {expected:?}"),
        (parsed, expected) => panic!("{value}: {parsed:?}, expected {expected:?}"),
    }
}

#[test]
fn what_is_accepted_and_what_is_refused() {
    check(IMAGE, image(), Ok(()));
    check(&format!("{IMAGE}; charset=utf-8"), image(), Ok(()));
    check(IMAGE, with(image(), "mediaType", json!(IMAGE)), Ok(()));
    check(IMAGE, with(image(), "layers", Value::Null), Ok(()));
    check(IMAGE, with(image(), "somethingNew", json!({"x": [1]})), Ok(()));
    check(DOCKER, with(image(), "mediaType", json!(DOCKER)), Ok(()));
    check(DOCKER, image(), Err("mediaType is missing"));
    check(IMAGE, with(image(), "mediaType", json!(DOCKER)), Err("Content-Type is"));
    check("application/json", image(), Err("are not accepted"));
    check("application/vnd.docker.distribution.manifest.v1+prettyjws", image(), Err("are not accepted"));
    check(IMAGE, with(image(), "schemaVersion", json!(1)), Err("schemaVersion"));
    check(IMAGE, with(image(), "manifests", json!([])), Err("mixed"));
    check(IMAGE, with(image(), "fsLayers", json!([])), Err("mixed"));
    check(IMAGE, with(image(), "config", Value::Null), Err("config is missing"));
    check(
        IMAGE,
        with(image(), "layers", json!([{"mediaType": "a/b", "digest": "sha256:x", "size": 1}])),
        Err("digest of a layer"),
    );
    check(IMAGE, with(image(), "layers", json!([with(descriptor(1), "size", json!(-1))])), Err("not a manifest"));
    check(IMAGE, with(image(), "layers", json!([descriptor(u64::MAX)])), Err("out of range"));
    check(
        IMAGE,
        with(image(), "layers", json!([with(descriptor(1), "mediaType", json!("x"))])),
        Err("not a media type"),
    );
    check(
        IMAGE,
        with(image(), "subject", json!({"mediaType": IMAGE, "digest": "nope", "size": 1})),
        Err("digest of a subject"),
    );
    check(IMAGE, with(image(), "artifactType", json!("a\r\nb/c")), Err("artifactType"));
    check(IMAGE, with(image(), "annotations", json!({"a": 1})), Err("not a manifest"));
    check(
        IMAGE,
        with(image(), "annotations", json!({"a": "x".repeat(MAX_ANNOTATION_BYTES)})),
        Err("annotations are larger"),
    );
    check(INDEX, json!({"schemaVersion": 2, "manifests": []}), Ok(()));
    check(INDEX, json!({"schemaVersion": 2}), Err("manifests is missing"));
    check(INDEX, with(image(), "manifests", json!([])), Err("mixed"));
    check(IMAGE, json!([]), Err("not a manifest"));
    check(IMAGE, with(image(), "layers", vec![descriptor(1); MAX_LAYERS].into()), Ok(()));
    check(IMAGE, with(image(), "layers", vec![descriptor(1); MAX_LAYERS + 1].into()), Err("more than 1000 layers"));
    assert!(parse(None, image().to_string().into(), Algorithm::Sha256).is_err());
    assert!(parse(Some(IMAGE), Bytes::from_static(b"\xff"), Algorithm::Sha256).is_err());
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{{\"x\": {}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(check_depth(nested(MAX_JSON_DEPTH).as_bytes()).is_ok());
    assert!(check_depth(nested(MAX_JSON_DEPTH + 1).as_bytes()).is_err());
    assert!(check_depth(format!("\"{}\\\"{}\"", "[".repeat(99), "{".repeat(99)).as_bytes()).is_ok());
    assert!(parse(Some(IMAGE), "[".repeat(1 << 20).into(), Algorithm::Sha256).is_err());
}

#[test]
fn facts_of_an_image() {
    let foreign = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": format!("sha256:{}", "f".repeat(64)), "size": 5, "urls": ["https://example.com/layer"],
    });
    let subject = format!("sha512:{}", "b".repeat(128));
    let value = with(image(), "layers", json!([descriptor(100), foreign]));
    let value = with(value, "subject", json!({"mediaType": IMAGE, "digest": subject, "size": 3}));
    let value = with(value, "annotations", json!({"b": "2", "a": "1"}));
    let parsed = read(IMAGE, &value).unwrap();
    let facts = parsed.facts;
    assert_eq!(facts.digest, digest_of(value.to_string().as_bytes(), Algorithm::Sha256));
    assert_eq!(facts.media_type, IMAGE);
    assert_eq!(facts.blobs.len(), 2, "config and one layer; the foreign one stays where it is");
    assert_eq!(facts.image_size, 112);
    assert_eq!(facts.subject.map(|digest| digest.to_string()), Some(subject));
    assert_eq!(facts.config_media_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
    assert_eq!(facts.artifact_type, facts.config_media_type, "the config's media type stands in");
    assert_eq!(facts.annotations.as_deref(), Some(r#"{"a":"1","b":"2"}"#));
    assert_eq!(parsed.config, Some(facts.blobs[0]));

    let artifact = read(IMAGE, &with(image(), "artifactType", json!("application/vnd.example.sbom"))).unwrap();
    assert_eq!(artifact.facts.artifact_type.as_deref(), Some("application/vnd.example.sbom"));
    let sha512 = parse(Some(IMAGE), image().to_string().into(), Algorithm::Sha512).unwrap();
    assert_eq!(sha512.facts.digest.algorithm(), Algorithm::Sha512);
}

#[test]
fn facts_of_an_index() {
    let child = with(descriptor(9), "platform", json!({"architecture": "arm64", "os": "linux", "variant": "v8"}));
    let facts = read(INDEX, &json!({"schemaVersion": 2, "manifests": [child, descriptor(1)]})).unwrap().facts;
    let platforms: Vec<_> =
        facts.children.iter().map(|child| (child.architecture.as_deref(), child.os.as_deref())).collect();
    assert_eq!(platforms, [(Some("arm64"), Some("linux")), (None, None)]);
    assert_eq!((facts.artifact_type, facts.blobs.len(), facts.image_size), (None, 0, 0));
}

#[test]
fn platforms_of_configs() {
    let words = |config: &str| platform(config.as_bytes());
    assert_eq!(
        words(r#"{"architecture":"amd64","os":"linux","rootfs":{}}"#),
        (Some("amd64".into()), Some("linux".into()))
    );
    assert_eq!(words("{}"), (None, None));
    assert_eq!(words("not json"), (None, None));
    assert_eq!(words(r#"{"architecture":"a b","os":""}"#), (None, None));
}
