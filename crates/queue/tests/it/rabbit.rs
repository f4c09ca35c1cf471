//! RabbitMQ: the contract, what messages look like there, and what operators do to queues.

use std::time::Duration;

use flowfleet_core::error::Kind;
use flowfleet_core::id::RunId;
use flowfleet_core::message::{RunMessage, TraceContext};
use flowfleet_core::port::Depth;
use flowfleet_core::run::Priority;
use flowfleet_queue::Options;
use lapin::BasicProperties;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};

use crate::contract;
use crate::support::{
    Rabbit, depth_becomes, envelope, envelopes, normal, nothing, pool, receipts, receive, runs, runs_of,
    with_rabbit,
};

/// Puts bytes of our own making on a queue.
async fn raw(rabbit: &Rabbit, queue: &str, body: &[u8], properties: BasicProperties) {
    let channel = rabbit.operator().await.create_channel().await.unwrap();
    channel
        .confirm_select(lapin::options::ConfirmSelectOptions::default())
        .await
        .unwrap();
    let options = BasicPublishOptions::default();
    let confirm = channel
        .basic_publish("".into(), queue.into(), options, body, properties)
        .await
        .unwrap();
    assert!(confirm.await.unwrap().is_ack());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_passes_the_contract() {
    with_rabbit(contract::POOLS, |rabbit| async move {
        contract::suite(rabbit.open().await).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_carry_what_tools_look_for() {
    with_rabbit(&["wire"], |rabbit| async move {
        let pool = pool("wire");
        let mut sent = envelope(&pool, Priority::Low);
        let trace = TraceContext {
            traceparent: "00-a-b-01".to_owned(),
            tracestate: None,
        };
        sent.message = RunMessage::new(sent.message.run, Some(trace));
        rabbit
            .open()
            .await
            .publish(std::slice::from_ref(&sent))
            .await
            .unwrap();
        let channel = rabbit.operator().await.create_channel().await.unwrap();
        let name = rabbit.queue(&pool, Priority::Low);
        let got = channel
            .basic_get(name.into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap()
            .unwrap();
        assert_eq!(RunMessage::decode(&got.data).unwrap(), sent.message);
        let properties = &got.properties;
        assert_eq!(
            properties.message_id().as_ref().unwrap().as_str(),
            sent.message.run.to_string()
        );
        assert_eq!(
            properties.content_type().as_ref().unwrap().as_str(),
            "application/json"
        );
        assert_eq!(properties.delivery_mode(), &Some(2), "persistent");
        let headers = properties.headers().as_ref().unwrap().inner();
        assert_eq!(headers["traceparent"], AMQPValue::LongString("00-a-b-01".into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_context_is_also_read_from_headers() {
    with_rabbit(&["headers"], |rabbit| async move {
        let pool = pool("headers");
        let queue = rabbit.open().await;
        let mut consumer = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
        let run = RunId::generate();
        let mut table = FieldTable::default();
        table.insert(
            "traceparent".into(),
            AMQPValue::LongString(LongString::from("00-c-d-01")),
        );
        let properties = BasicProperties::default().with_headers(table);
        let body = RunMessage::new(run, None).encode();
        raw(&rabbit, &rabbit.queue(&pool, Priority::Normal), &body, properties).await;
        let got = receive(&mut *consumer, 1).await;
        assert_eq!(got[0].message.run, run);
        assert_eq!(got[0].message.trace.as_ref().unwrap().traceparent, "00-c-d-01");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_dropped_and_does_not_come_back() {
    with_rabbit(&["garbage"], |rabbit| async move {
        let pool = pool("garbage");
        let queue = rabbit.open().await;
        let sent = envelopes(&pool, Priority::Normal, 3);
        queue.publish(&sent[..1]).await.unwrap();
        let name = rabbit.queue(&pool, Priority::Normal);
        for body in [
            &b"not json"[..],
            b"",
            b"{\"v\":99,\"run\":\"01920000-0000-7000-8000-000000000000\"}",
        ] {
            raw(&rabbit, &name, body, BasicProperties::default()).await;
        }
        queue.publish(&sent[1..]).await.unwrap();
        // Garbage takes no place in the prefetch for long: three good ones fit through two.
        let mut consumer = queue.consume(std::slice::from_ref(&pool), 2).await.unwrap();
        let mut got = receive(&mut *consumer, 1).await;
        consumer.ack(&receipts(&got)).await.unwrap();
        let rest = receive(&mut *consumer, 2).await;
        consumer.ack(&receipts(&rest)).await.unwrap();
        got.extend(rest);
        assert_eq!(runs(&got), runs_of(&sent));
        nothing(&mut *consumer).await;
        drop(consumer);
        let mut next = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
        nothing(&mut *next).await;
        next.pause().await.unwrap();
        depth_becomes(&*queue, &pool, Depth::default()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_declared_again_by_the_consumer() {
    with_rabbit(&["deleted"], |rabbit| async move {
        let pool = pool("deleted");
        let queue = rabbit.open().await;
        let mut consumer = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
        queue
            .publish(&envelopes(&pool, Priority::Normal, 1))
            .await
            .unwrap();
        let old = receive(&mut *consumer, 1).await;
        rabbit.delete(&pool).await;
        // While the worker waits, as it does most of its time.
        let (got, sent) = tokio::join!(receive(&mut *consumer, 3), async {
            let sent = envelopes(&pool, Priority::Normal, 3);
            queue.publish(&sent).await.unwrap();
            sent
        });
        assert_eq!(runs(&got), runs_of(&sent));
        assert_ne!(got[0].receipt.generation, old[0].receipt.generation);
        consumer.ack(&receipts(&old)).await.unwrap();
        consumer.ack(&receipts(&got)).await.unwrap();
        assert!(consumer.connected());
        nothing(&mut *consumer).await;
    })
    .await;
}

/// The broker may carry a consumer over to a queue that is deleted and declared again at once, and send it
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_forgotten_starts_again() {
    with_rabbit(&["replaced"], |rabbit| async move {
        let pool = pool("replaced");
        let options = Options {
            check_interval: Duration::from_millis(100),
            ..rabbit.options()
        };
        let queue = flowfleet_queue::open(&rabbit.url, options).await.unwrap();
        let mut consumer = queue.consume(std::slice::from_ref(&pool), 10).await.unwrap();
        queue
            .publish(&envelopes(&pool, Priority::Normal, 1))
            .await
            .unwrap();
        let first = receive(&mut *consumer, 1).await;
        consumer.ack(&receipts(&first)).await.unwrap();
        let channel = rabbit.operator().await.create_channel().await.unwrap();
        let name = rabbit.queue(&pool, Priority::Normal);
        channel
            .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
            .await
            .unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000));
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(name.into(), options, arguments)
            .await
            .unwrap();
        let sent = envelopes(&pool, Priority::Normal, 3);
        queue.publish(&sent).await.unwrap();
        let got = receive(&mut *consumer, 3).await;
        assert_eq!(runs(&got), runs_of(&sent));
        consumer.ack(&receipts(&got)).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_declared_again_by_the_publisher() {
    with_rabbit(&["unrouted", "fine"], |rabbit| async move {
        let (gone, fine) = (pool("unrouted"), pool("fine"));
        let queue = rabbit.open().await;
        let mut first = envelopes(&gone, Priority::Normal, 1);
        first.extend(envelopes(&fine, Priority::Normal, 1));
        queue.publish(&first).await.unwrap();
        rabbit.delete(&gone).await;
        let mut second = envelopes(&gone, Priority::Normal, 40);
        second.extend(envelopes(&fine, Priority::Normal, 40));
        second.extend(envelopes(&gone, Priority::High, 40));
        queue.publish(&second).await.unwrap();
        depth_becomes(
            &*queue,
            &gone,
            Depth {
                high: 40,
                normal: 40,
                low: 0,
            },
        )
        .await;
        // Only what came back was published again.
        depth_becomes(&*queue, &fine, normal(41)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_takes_what_waits_and_no_more() {
    with_rabbit(&["purge"], |rabbit| async move {
        let pool = pool("purge");
        let queue = rabbit.open().await;
        queue
            .publish(&envelopes(&pool, Priority::Normal, 20))
            .await
            .unwrap();
        let mut consumer = queue.consume(std::slice::from_ref(&pool), 5).await.unwrap();
        let held = receive(&mut *consumer, 5).await;
        depth_becomes(&*queue, &pool, normal(15)).await;
        let channel = rabbit.operator().await.create_channel().await.unwrap();
        let name = rabbit.queue(&pool, Priority::Normal);
        channel
            .queue_purge(name.into(), QueuePurgeOptions::default())
            .await
            .unwrap();
        consumer.ack(&receipts(&held)).await.unwrap();
        let sent = envelopes(&pool, Priority::Normal, 2);
        queue.publish(&sent).await.unwrap();
        let got = receive(&mut *consumer, 2).await;
        assert_eq!(runs(&got), runs_of(&sent));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_another_kind_is_explained() {
    with_rabbit(&["other"], |rabbit| async move {
        let pool = pool("other");
        let channel = rabbit.operator().await.create_channel().await.unwrap();
        let name = rabbit.queue(&pool, Priority::High);
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await
            .unwrap();
        let queue = rabbit.open().await;
        let publish = queue
            .publish(&envelopes(&pool, Priority::High, 1))
            .await
            .unwrap_err();
        let consume = queue.consume(&[pool], 10).await.unwrap_err();
        for error in [publish, consume] {
            assert_eq!(error.kind, Kind::Permanent);
            let text = error.to_string();
            assert!(
                text.contains("406") && text.contains("PRECONDITION_FAILED"),
                "{text}"
            );
            assert!(text.contains("choose another prefix"), "{text}");
        }
        // The connection is none the worse for it.
        queue.ping(Duration::from_secs(5)).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_explained_by_the_ping() {
    with_rabbit(&[], |rabbit| async move {
        let mut url = url::Url::parse(&rabbit.url).unwrap();
        url.set_password(Some("no-such-secret")).unwrap();
        let queue = flowfleet_queue::open(url.as_str(), rabbit.options())
            .await
            .unwrap();
        let error = queue.ping(Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Permanent);
        let text = error.to_string();
        assert!(text.contains("403") && text.contains("password"), "{text}");
        assert!(!text.contains("no-such-secret"), "{text}");
    })
    .await;
}
