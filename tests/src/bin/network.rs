//! `network FILE`: plays a scenario file in the network bench and prints the table of who gets in when.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::process::ExitCode;

use postern_tests::bench::{Scenario, program};

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("network FILE");
        return ExitCode::FAILURE;
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    match Scenario::parse(&text) {
        Ok(scenario) => {
            if let Some(table) = program(|| println!("{}", scenario.table())) {
                println!("{}", table.trim_end());
            }
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{}: {problem}", file.display());
            ExitCode::FAILURE
        }
    }
}
