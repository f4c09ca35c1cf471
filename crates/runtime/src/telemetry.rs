//! Logs to standard error, as text or JSON, and spans over OTLP when an endpoint is configured.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// The variables of the OpenTelemetry standard that switch traces on.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Why logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "log filter {filter:?} is not valid: {detail} (write for example info, or info,flowfleet_worker=debug)"
    )]
    Filter { filter: String, detail: String },
    #[error("OTLP exporter: {0}")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("logging is set up already")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Flushes traces at the end of the process.
#[derive(Debug)]
#[must_use = "spans that wait for their export are lost unless shutdown is called"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets up the logs of this process, and its traces when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
pub fn init(service: &'static str, log: &str, format: LogFormat) -> Result<Telemetry, Error> {
    let filter = EnvFilter::try_new(log).map_err(|error| Error::Filter {
        filter: log.to_owned(),
        detail: error.to_string(),
    })?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    let provider = exported().then(|| provider(service)).transpose()?;
    // Traces have a filter of their own: a quiet log must not silence them, and spans of libraries stay out.
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_filter(Targets::new().with_target("flowfleet", LevelFilter::INFO))
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traces)
        .try_init()?;
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Exports what waits. Blocks for a few seconds at most.
    pub fn shutdown(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

fn exported() -> bool {
    ENDPOINTS
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// A provider with a batch thread of its own, which owns a blocking HTTP client: the asynchronous one would find
/// no reactor there.
fn provider(service: &'static str) -> Result<SdkTracerProvider, Error> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build()?;
    let resource = Resource::builder().with_service_name(service).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}
