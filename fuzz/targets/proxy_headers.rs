#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| postern::fuzzing::proxy_headers(data));
