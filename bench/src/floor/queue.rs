//! The floor's quorum queue: declaring, publishing with confirms, consuming.

use anyhow::ensure;
use futures::future::try_join_all;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use uuid::Uuid;

const QUEUE: &str = "floor";
const PERSISTENT: u8 = 2;

pub(super) async fn connect(url: &str) -> anyhow::Result<Connection> {
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

pub(super) async fn declare(url: &str) -> anyhow::Result<()> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(QUEUE.into(), options, arguments).await?;
    connection.close(200, "declared".into()).await?;
    Ok(())
}

/// A channel that confirms.
pub(super) async fn publisher(connection: &Connection) -> anyhow::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes one message an id and waits until the broker has all of them.
pub(super) async fn publish(channel: &Channel, ids: &[Uuid]) -> anyhow::Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let sent = ids.iter().map(|id| {
        let properties = properties.clone();
        async move {
            let options = BasicPublishOptions::default();
            channel
                .basic_publish("".into(), QUEUE.into(), options, id.as_bytes(), properties)
                .await?
                .await
        }
    });
    for confirm in try_join_all(sent).await? {
        ensure!(confirm.is_ack(), "the broker refuses a message");
    }
    Ok(())
}

pub(super) async fn consumer(connection: &Connection, prefetch: u16) -> anyhow::Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let consumer = channel
        .basic_consume(
            QUEUE.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok((channel, consumer))
}
