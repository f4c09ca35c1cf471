//! RabbitMQ: its version and first process, and virtual hosts of our own.

use std::process::Command;

use anyhow::{Context as _, ensure};
use lapin::{Connection, ConnectionProperties};
use url::Url;

use crate::usage;

/// Version and, when it runs on this machine, the first process.
pub(super) async fn probe(url: &str) -> anyhow::Result<(String, Option<u32>)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    connection.close(200, "only a look".into()).await?;
    let version = rabbitmqctl(&["version"])?;
    let first = usage::pids().find(|&pid| {
        usage::command_line(pid).is_some_and(|line| line.contains("beam.smp") && line.contains("-s rabbit"))
    });
    Ok((version, first))
}

fn rabbitmqctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("rabbitmqctl")
        .args(["--quiet"])
        .args(arguments)
        .output()
        .context("rabbitmqctl does not start: it comes with rabbitmq-server")?;
    ensure!(
        output.status.success(),
        "rabbitmqctl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A virtual host, deleted with the value.
#[derive(Debug)]
pub(crate) struct Vhost {
    name: String,
    pub(crate) url: String,
}

impl Vhost {
    pub(super) fn create(server: &Url, name: &str) -> anyhow::Result<Self> {
        let mut url = server.clone();
        url.set_path(name);
        let user = match server.username() {
            "" => "guest",
            user => user,
        };
        rabbitmqctl(&["add_vhost", name])?;
        let vhost = Self {
            name: name.to_owned(),
            url: url.into(),
        };
        rabbitmqctl(&["set_permissions", "-p", name, user, ".*", ".*", ".*"])?;
        Ok(vhost)
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if let Err(error) = rabbitmqctl(&["delete_vhost", &self.name]) {
            crate::report::complain(&format!(
                "the virtual host {} is left behind: {error:#}",
                self.name
            ));
        }
    }
}
