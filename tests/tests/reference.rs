//! Reference pages that are made from the code's own tables.

use std::fmt::Write as _;

use postern_oci::{ENDPOINTS, table};
use postern_tests::golden;

#[test]
fn data_plane_endpoints_and_errors() {
    let mut page = String::from(
        "# Data plane: endpoints and errors\n\n\
         Made from the tables in `crates/oci/src/endpoints.rs` and `crates/oci/src/error.rs`; `cargo xtask bless` renews it.\n\n\
         ## Endpoints\n\n\
         `id` is the OCI distribution specification's. The operation is what the access decision is about, with the sets of\n\
         actions of which one must be held.\n\n\
         | id | request | operation | needs |\n| --- | --- | --- | --- |\n",
    );
    for endpoint in ENDPOINTS {
        let needs: Vec<String> = endpoint.operation.required().iter().map(|set| format!("`{set}`")).collect();
        let needs = if needs.is_empty() { "any verified caller".to_owned() } else { needs.join(" or ") };
        let operation = endpoint.operation.as_str();
        writeln!(page, "| {} | {} `{}` | {operation} | {needs} |", endpoint.id, endpoint.method, endpoint.path)
            .expect("text grows");
    }
    page.push_str(
        "\n## Errors\n\n| condition | status | code | message | headers |\n| --- | --- | --- | --- | --- |\n",
    );
    for entry in table() {
        let headers = entry.headers.join(", ");
        let message = entry.message.replace('|', "\\|");
        writeln!(page, "| {:?} | {} | `{}` | {message} | {headers} |", entry.condition, entry.status, entry.code)
            .expect("text grows");
    }
    golden("docs/reference/data-plane.md", &page);
}
