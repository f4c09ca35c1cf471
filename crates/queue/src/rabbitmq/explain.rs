//! What the broker's errors mean to a caller, and what an operator can do.

use std::time::Duration;

use flowfleet_core::error::{Kind, PortError};
use lapin::{Error, ErrorKind};

/// Reply codes of AMQP 0-9-1 that need more than another try.
const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;
const NOT_IMPLEMENTED: u16 = 540;

/// The reply code, when the broker gave one.
pub(super) fn code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

fn advice(code: u16) -> Option<&'static str> {
    Some(match code {
        PRECONDITION_FAILED => {
            "the queue exists with other arguments: delete it (runs are in the store and are published again), or choose another prefix"
        }
        ACCESS_REFUSED => {
            "check user and password, and that the user may configure, write and read queues of this prefix in its vhost"
        }
        NOT_ALLOWED => "check that the vhost exists and that the user may use it",
        NOT_IMPLEMENTED => "the broker lacks a feature: RabbitMQ 3.10 or later with quorum queues is needed",
        _ => return None,
    })
}

/// An error of the client library, in the words of the port.
pub(super) fn explain(operation: &'static str, error: Error) -> PortError {
    let (kind, detail) = match error.kind() {
        ErrorKind::ProtocolError(protocol) => {
            let code = protocol.get_id();
            let text = protocol.get_message();
            match advice(code) {
                Some(advice) => (
                    Kind::Permanent,
                    format!("RabbitMQ answered {code} {text}: {advice}"),
                ),
                None => (Kind::Retryable, format!("RabbitMQ answered {code} {text}")),
            }
        }
        ErrorKind::SerialisationError(_) => (Kind::Bug, format!("RabbitMQ: {error}")),
        ErrorKind::InvalidProtocolVersion(_) => (
            Kind::Permanent,
            format!("RabbitMQ: {error}: something else than an AMQP 0-9-1 broker listens there"),
        ),
        _ => (Kind::Retryable, format!("RabbitMQ: {error}")),
    };
    PortError {
        kind,
        operation,
        detail,
        source: Some(Box::new(error)),
    }
}

/// A retryable error without a source.
pub(super) fn busy(operation: &'static str, detail: impl Into<String>) -> PortError {
    PortError::new(Kind::Retryable, operation, detail)
}

/// Bounds one exchange with the broker: a connection that hangs answers nothing, not even an error.
pub(super) async fn within<T>(
    operation: &'static str,
    patience: Duration,
    exchange: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    match tokio::time::timeout(patience, exchange).await {
        Ok(result) => result.map_err(|error| PortError { operation, ..error }),
        Err(_) => Err(busy(
            operation,
            format!("RabbitMQ did not answer within {patience:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    fn answered(code: u16) -> PortError {
        let error = AMQPError::from_id(code, "SOME TEXT".into()).unwrap();
        explain("queue.consume", Error::from(ErrorKind::ProtocolError(error)))
    }

    #[test]
    fn codes_table() {
        for (code, kind, word) in [
            (406, Kind::Permanent, "prefix"),
            (403, Kind::Permanent, "password"),
            (530, Kind::Permanent, "vhost"),
            (540, Kind::Permanent, "3.10"),
            (404, Kind::Retryable, "404"),
            (320, Kind::Retryable, "320"),
            (541, Kind::Retryable, "541"),
        ] {
            let error = answered(code);
            assert_eq!(error.kind, kind, "{code}");
            let text = error.to_string();
            assert!(
                text.contains(&code.to_string()) && text.contains("SOME TEXT"),
                "{text}"
            );
            assert!(text.contains(word), "{text}");
        }
    }
}
