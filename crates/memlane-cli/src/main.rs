//! The `memlane` command.

mod args;
mod blocks;
mod channel;
mod commands;
mod failure;
mod inbox;
mod numbers;
mod outbox;
mod picture;
mod report;
mod stop;
mod stream;

use args::{Arguments, Command};
use clap::{CommandFactory, Parser};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    stop::listen();
    let result = match arguments.command {
        Command::Demo(demo) => commands::demo::run(&demo),
        Command::DemoReceiver(receiver) => commands::demo::receive(&receiver),
        Command::Send(send) => commands::send::run(&send),
        Command::Recv(recv) => commands::recv::run(&recv),
        Command::Top(top) => commands::top::run(&top),
        Command::Tap(tap) => commands::tap::run(&tap),
        Command::Ls { json } => commands::ls::run(json),
        Command::Inspect(inspect) => commands::inspect::run(&inspect),
        Command::Rm { name, force } => commands::rm::run(&name, force),
        Command::Gc { dry_run, json } => commands::gc::run(dry_run, json),
        Command::Doctor(doctor) => commands::doctor::run(&doctor),
        Command::DoctorVictim { name } => commands::doctor::victim(&name),
        Command::Completions { shell } => {
            // Into memory first: `generate` panics when it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "memlane", &mut script);
            std::io::stdout().write_all(&script).map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
