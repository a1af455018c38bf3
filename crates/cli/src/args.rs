//! The commands.

use anyhow::Result;
use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::failure::Outcome;
use crate::{
    bench, compare, convert, data, deepen, eval, inspect, predict, prune, quickstart, report,
    study, train,
};

/// Plain and residual networks: train them, measure them, look into them, use them
///
/// DATA is one of: a CIFAR-10/100 binary archive (.tar.gz) or its extracted folder; a folder of
/// images with class subfolders, alone or under train/ val/ test/; a folder of MNIST-style IDX
/// files; a .csv or .npy of vectors with labels; synthetic:shapes; synthetic:spirals.
#[derive(Debug, Parser)]
#[command(name = "residua", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = FIRST_STEPS)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  residua quickstart
  residua train synthetic:spirals --model dense-resnet
  residua inspect resnet50

Environment:
  RESIDUA_ISA=portable|avx2|avx512|avx512bf16|amx
               the most that kernels may use [default: what there is]
  NO_COLOR=1   no colours";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Quickstart(quickstart::QuickstartArgs),
    Train(Box<train::TrainArgs>),
    Eval(eval::EvalArgs),
    Predict(predict::PredictArgs),
    Inspect(inspect::InspectArgs),
    Deepen(deepen::DeepenArgs),
    Prune(prune::PruneArgs),
    Convert(convert::ConvertArgs),
    Compare(Box<compare::CompareArgs>),
    #[command(subcommand)]
    Study(study::StudyCommand),
    Report(report::ReportArgs),
    #[command(subcommand)]
    Data(data::DataCommand),
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// The command line. A negative number is a value, and not a flag that there isn't: what is wrong with it is
/// told by its range.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&with_negative_numbers(Cli::command()).try_get_matches()?)
}

fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let takes_value = |arg: &Arg| !arg.is_positional() && arg.get_action().takes_values();
    command
        .mut_args(|arg| if takes_value(&arg) { arg.allow_negative_numbers(true) } else { arg })
        .mut_subcommands(with_negative_numbers)
}

impl Command {
    pub(crate) fn run(self) -> Result<Outcome> {
        match self {
            Self::Quickstart(args) => quickstart::run(&args),
            Self::Train(args) => train::run(&args),
            Self::Eval(args) => eval::run(&args),
            Self::Predict(args) => predict::run(&args),
            Self::Inspect(args) => inspect::run(&args),
            Self::Deepen(args) => deepen::run(&args),
            Self::Compare(args) => compare::run(&args),
            Self::Report(args) => report::run(&args),
            Self::Prune(args) => prune::run(&args),
            Self::Convert(args) => convert::run(&args),
            Self::Study(command) => command.run(),
            Self::Data(command) => command.run(),
            Self::Bench(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::{Command, CommandFactory};

    use super::Cli;

    fn commands() -> Vec<Command> {
        fn collect(command: &Command, all: &mut Vec<Command>) {
            all.push(command.clone());
            command.get_subcommands().for_each(|command| collect(command, all));
        }
        let mut root = Cli::command();
        root.build();
        let mut all = Vec::new();
        collect(&root, &mut all);
        all
    }

    /// What is wrong with the arguments of a command.
    fn faults(command: &Command) -> Vec<String> {
        let mut faults = Vec::new();
        let (mut shorts, mut longs) = (HashSet::new(), HashSet::new());
        for arg in command.get_arguments() {
            let id = arg.get_id();
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            if help.is_empty() {
                faults.push(format!("{id}: no help"));
            }
            if help.ends_with('.') {
                faults.push(format!("{id}: help ends with a full stop"));
            }
            if arg.get_short().is_some_and(|short| !shorts.insert(short)) {
                faults.push(format!("{id}: short flag taken twice"));
            }
            if arg.get_long().is_some_and(|long| !longs.insert(long.to_owned())) {
                faults.push(format!("{id}: long flag taken twice"));
            }
            let takes_value = arg.get_action().takes_values();
            let value_name = arg.get_value_names().and_then(|names| names.first());
            if takes_value && value_name.is_none_or(|name| *name != name.to_uppercase()) {
                faults.push(format!("{id}: no value name in capitals"));
            }
        }
        if command.get_about().is_none() {
            faults.push("no line about it".to_owned());
        }
        faults
    }

    #[test]
    fn every_command_is_well_formed_and_documented() {
        Cli::command().debug_assert();
        let commands = commands();
        assert!(commands.len() >= 6);
        for command in commands {
            assert_eq!(faults(&command), Vec::<String>::new(), "{}", command.get_name());
        }
    }

    #[test]
    fn every_command_that_does_something_has_examples() {
        for command in commands().iter().filter(|command| !command.has_subcommands()) {
            let help = command.get_after_long_help().or(command.get_after_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            let name = command.get_bin_name().expect("built");
            assert!(help.contains("Examples:") && help.contains(name), "{name}: {help}");
        }
    }

    #[test]
    fn the_checks_reject_an_undocumented_command() {
        let long = |id: &'static str| clap::Arg::new(id).long(id);
        let command = Command::new("bad")
            .arg(long("a").short('x').help("Fine").value_name("A"))
            .arg(long("b").short('x').value_name("lower").help("Ends."))
            .arg(clap::Arg::new("c").long("a").action(clap::ArgAction::SetTrue));
        assert_eq!(
            faults(&command),
            [
                "b: help ends with a full stop",
                "b: short flag taken twice",
                "b: no value name in capitals",
                "c: no help",
                "c: long flag taken twice",
                "no line about it",
            ]
        );
    }
}
