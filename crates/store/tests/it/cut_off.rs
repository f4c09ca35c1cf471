//! A process that stops, or whose network does, in the middle of a transaction.

use std::time::Duration;

use flowfleet_core::run::EndedBecause;
use flowfleet_store::{Options, open};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::bed::{Bed, OVER, release, until};

/// A way to the server of `url` on which nothing of what follows `text` arrives, and what tells that it got so far.
async fn until_asked(url: &str, text: &'static str) -> (String, watch::Receiver<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut through = url::Url::parse(url).unwrap();
    let server = (
        through.host_str().unwrap().to_owned(),
        through.port().unwrap_or(5432),
    );
    through.set_ip_host([127, 0, 0, 1].into()).unwrap();
    through
        .set_port(Some(listener.local_addr().unwrap().port()))
        .unwrap();
    // What is encrypted cannot be found.
    through.query_pairs_mut().append_pair("sslmode", "disable");
    let (asked, tells) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (server, asked) = (server.clone(), asked.clone());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await.unwrap();
                let (mut questions, mut answers) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let up = async {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = questions.read(&mut buffer).await {
                        if buffer[..read].windows(text.len()).any(|w| w == text.as_bytes()) {
                            asked.send_replace(true);
                            std::future::pending::<()>().await;
                        }
                        to_server.write_all(&buffer[..read]).await.unwrap();
                    }
                };
                let (_, _) = tokio::join!(up, tokio::io::copy(&mut from_server, &mut answers));
            });
        }
    });
    (through.to_string(), tells)
}

pub(crate) async fn its_runs_are_given_to_others(bed: Bed) {
    let run = bed.submit_one().await;
    let lease = bed.claim(run, OVER).await.lease;
    let (url, mut asked) = until_asked(&bed.url, "INSERT INTO run_attempts").await;
    let stopped = open(&url, Options::default()).await.unwrap();
    let stopped = tokio::spawn(async move {
        let _ = stopped
            .release(&[release(lease, EndedBecause::Interrupted, None)])
            .await;
    });
    asked.wait_for(|asked| *asked).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(
        bed.store.reap(10).await.unwrap(),
        (vec![], None),
        "the other transaction holds it"
    );
    let (_, outbox) = until("a run that somebody held", || async {
        let (events, outbox) = bed.store.reap(10).await.unwrap();
        outbox.map(|outbox| (events, outbox))
    })
    .await;
    assert_eq!(outbox.envelopes[0].message.run, run);
    stopped.abort();
}
