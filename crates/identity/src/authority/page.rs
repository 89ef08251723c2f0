//! The pages on which people sign a device in.

use std::fmt::Write as _;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, Response, StatusCode};

use crate::Identity;

/// The pages need no script and nothing from elsewhere, and nobody shows them inside theirs.
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const FORM: &str = r#"<p>Enter the code that the device shows. Go on only if you began this sign-in yourself: the device will act as you.</p>
<form method="post" autocomplete="off">
<label>Code <input name="code" required autofocus></label>
<label>User name <input name="username" required autocomplete="username"></label>
<label>Password <input name="password" type="password" required autocomplete="current-password"></label>
<button>Sign the device in</button>
"#;

/// Where a code is entered, with the ways to say who one is.
pub(super) fn form(identity: &Identity) -> String {
    let mut form = FORM.to_owned();
    for issuer in identity.issuers.trusted() {
        let name = escaped(&issuer.name);
        // The code alone is needed with these.
        let _ = writeln!(
            form,
            r#"<p><button name="issuer" value="{name}" formnovalidate>Sign in with {name}</button></p>"#
        );
    }
    form.push_str("</form>");
    form
}

/// A page. The message is text, the rest is markup.
pub(super) fn html(status: StatusCode, message: &str, rest: &str) -> Response<Body> {
    html_with(status, message, rest, "")
}

/// The same with more in its head.
pub(super) fn html_with(status: StatusCode, message: &str, rest: &str, head: &str) -> Response<Body> {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">{head}<title>Sign a device in</title>\
         <style>body{{font-family:sans-serif;max-width:30em;margin:3em auto}}label{{display:block;margin:1em 0}}</style>\
         <h1>Sign a device in</h1><p role=\"status\">{}</p>{rest}</html>",
        escaped(message)
    );
    let mut response = Response::new(Body::from(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A text, fit to stand in markup and in quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn texts_stay_texts() {
        assert_eq!(escaped("a<b>&\"c'\n"), "a&lt;b&gt;&amp;&quot;c&#39; ");
    }
}
