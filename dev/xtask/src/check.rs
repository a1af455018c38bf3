//! `cargo xtask check`: what CI runs, cheapest first.

use crate::{Result, documents, golden, layers};
use residua_kernels::Isa;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Crates in which `RESIDUA_ISA` changes what is chosen.
const ISA_CRATES: [&str; 2] = ["residua-kernels", "residua-engine"];

/// Runs every step and stops at the first that fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut sections = Sections { root, times: Vec::new() };
    sections.cargo("fmt", &["fmt", "--all", "--check"], &[])?;
    sections.section("layers", || layers::run(root))?;
    sections.section("documents", || documents::verify(root))?;
    sections.section("golden", || golden::verify(root))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    sections.cargo("clippy", &clippy, &[])?;
    // The README's test command, with the best kernels of this machine.
    sections.cargo("test", &["test", "--workspace"], &[])?;
    sections.isa_levels()?;
    let doc = ["doc", "--workspace", "--no-deps"];
    sections.cargo("doc", &doc, &[("RUSTDOCFLAGS", "-Dwarnings")])?;
    sections.summary();
    Ok(())
}

/// The steps that ran, with the seconds each took.
struct Sections<'a> {
    root: &'a Path,
    times: Vec<(String, f64)>,
}

impl Sections<'_> {
    fn section(&mut self, name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        run().inspect_err(|_| println!("== {name}: failed"))?;
        let seconds = start.elapsed().as_secs_f64();
        println!("== {name}: ok in {seconds:.1} s");
        self.times.push((name.to_owned(), seconds));
        Ok(())
    }

    fn cargo(&mut self, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        let mut command = Command::new(env!("CARGO"));
        // A cap of the caller would hide the best kernels.
        command.args(arguments).current_dir(self.root).env_remove("RESIDUA_ISA");
        command.envs(variables.iter().copied());
        self.section(name, || match command.status()? {
            status if status.success() => Ok(()),
            status => Err(format!("cargo {}: {status}", arguments.join(" ")).into()),
        })
    }

    /// Tests every instruction set below the best one, which the workspace's tests have used.
    fn isa_levels(&mut self) -> Result<()> {
        let best = Isa::ALL.into_iter().filter(|isa| isa.is_supported() && isa.is_fast()).max();
        let mut arguments = vec!["test"];
        arguments.extend(ISA_CRATES.iter().flat_map(|package| ["--package", package]));
        for isa in Isa::ALL {
            let name = format!("test RESIDUA_ISA={isa}");
            if !isa.is_supported() {
                println!("\n== {name}: skipped, this machine lacks {isa}");
            } else if Some(isa) == best {
                println!("\n== {name}: the best of this machine, tested above");
            } else {
                self.cargo(&name, &arguments, &[("RESIDUA_ISA", &isa.to_string())])?;
            }
        }
        Ok(())
    }

    fn summary(&self) {
        println!("\n== summary");
        for (name, seconds) in &self.times {
            println!("{seconds:8.1} s  {name}");
        }
        println!("{:8.1} s  all", self.times.iter().map(|(_, seconds)| seconds).sum::<f64>());
    }
}
