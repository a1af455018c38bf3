//! Which instruction sets the other tests went through, and that the environment can cap them.

use std::io::Write;
use std::process::Command;

use residua_kernels::Isa;

/// Straight to standard error, past the test harness: a skipped level must not pass unseen.
#[test]
fn skipped_instruction_sets_are_named() {
    let list = |wanted: bool| -> String {
        let isas = Isa::ALL.into_iter().filter(|isa| isa.is_supported() == wanted);
        isas.map(|isa| format!(" {isa}")).collect()
    };
    let (tested, skipped) = (list(true), list(false));
    let skipped = if skipped.is_empty() { " none" } else { &skipped };
    writeln!(std::io::stderr(), "kernels tested for:{tested}; not on this machine:{skipped}")
        .unwrap();
    assert!(Isa::supported().any(|isa| isa == Isa::Portable));
}

#[test]
fn names_are_read_back() {
    for isa in Isa::ALL {
        assert_eq!(isa.to_string().parse(), Ok(isa));
    }
    let message = "sse9".parse::<Isa>().unwrap_err().to_string();
    assert_eq!(
        message,
        "instruction set is `sse9`, expected portable, avx2, avx512, avx512bf16 or amx"
    );
}

#[test]
#[ignore = "its output depends on the environment; the next test runs it"]
fn print_best() {
    match Isa::best() {
        Ok(isa) => println!("best is {isa}"),
        Err(error) => println!("error: {error}"),
    }
}

/// In a process of its own, for the variable is read once.
#[test]
fn the_environment_caps_the_instruction_set() {
    let output_with = |cap: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "print_best", "--ignored", "--nocapture"]);
        command.env_remove("RESIDUA_ISA");
        if let Some(cap) = cap {
            command.env("RESIDUA_ISA", cap);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let allowed = |isa: Isa, cap| isa == cap || isa < cap && isa.is_fast();
    let best = |cap| Isa::supported().filter(|isa| allowed(*isa, cap)).max().unwrap();
    for cap in Isa::ALL {
        let output = output_with(Some(&cap.to_string()));
        assert!(output.contains(&format!("best is {}", best(cap))), "{cap}: {output}");
    }
    let output = output_with(None);
    assert!(output.contains(&format!("best is {}", best(Isa::Amx))), "{output}");
    let output = output_with(Some("fast"));
    assert!(output.contains("error: instruction set is `fast`"), "{output}");
}
