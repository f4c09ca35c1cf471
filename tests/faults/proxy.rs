//! A TCP proxy between one process and one service, which can stop to be a good network.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How the network behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Sound,
    /// Nothing passes, nobody is told; what was sent arrives when it is over.
    Blackhole,
    /// What the service answers does not arrive until it is over; what the process asks does.
    AnswersLost,
    /// What the process asks does not arrive until it is over; what the service sends does.
    QuestionsLost,
    /// Every connection is reset, and every new one.
    Reset,
    /// A few kilobytes a second, late.
    Slow,
}

impl Mode {
    /// All that are a fault.
    pub const FAULTS: [Self; 5] = [
        Self::Blackhole,
        Self::AnswersLost,
        Self::QuestionsLost,
        Self::Reset,
        Self::Slow,
    ];

    fn holds_up(self, way: Way) -> bool {
        match self {
            Self::Blackhole => true,
            Self::QuestionsLost => way == Way::Up,
            Self::AnswersLost => way == Way::Down,
            Self::Sound | Self::Reset | Self::Slow => false,
        }
    }
}

/// Up is from the process to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

const SLOW_BYTES: usize = 4 * 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(80);

/// A listening proxy; its connections end with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(target: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let target = target
            .parse()
            .with_context(|| format!("{target} is an address"))?;
        let (mode, watched) = watch::channel(Mode::Sound);
        let task = tokio::spawn(serve(listener, target, watched));
        Ok(Self { address, mode, task })
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, target, mode.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until either side or the network ends it.
async fn connection(mut client: TcpStream, target: SocketAddr, mut mode: watch::Receiver<Mode>) {
    // Dropped sockets with data unread or this option set say RST, as a network that is cut off does.
    let _ = client.set_zero_linger();
    let mut before = mode.clone();
    let server = tokio::select! {
        () = reset(&mut mode) => return,
        server = connect(target, &mut before) => server,
    };
    let Some(mut server) = server else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let (mut up, mut down) = (mode.clone(), mode.clone());
    let both = async {
        tokio::join!(
            pump(&mut from_client, &mut to_server, Way::Up, &mut up),
            pump(&mut from_server, &mut to_client, Way::Down, &mut down),
        )
    };
    tokio::select! {
        _ = both => {}
        () = reset(&mut mode) => {}
    }
}

async fn connect(target: SocketAddr, mode: &mut watch::Receiver<Mode>) -> Option<TcpStream> {
    passable(mode, Way::Up).await;
    TcpStream::connect(target).await.ok()
}

async fn reset(mode: &mut watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode == Mode::Reset).await.is_err() {
        // The proxy is gone and its connections with it.
        std::future::pending::<()>().await;
    }
}

async fn passable(mode: &mut watch::Receiver<Mode>, way: Way) -> Mode {
    mode.wait_for(|mode| !mode.holds_up(way))
        .await
        .map_or(Mode::Reset, |mode| *mode)
}

/// Copies one way until its end, then passes the end on.
async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    way: Way,
    mode: &mut watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let most = match passable(mode, way).await {
            Mode::Slow => {
                tokio::time::sleep(SLOW_PAUSE).await;
                SLOW_BYTES / 10
            }
            _ => buffer.len(),
        };
        let read = match from.read(&mut buffer[..most]).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        // The network may have broken while this waited for something to read.
        passable(mode, way).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const SHORT: Duration = Duration::from_millis(150);
    const LONG: Duration = Duration::from_secs(5);

    /// A service that answers each byte with the next one.
    async fn service() -> anyhow::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        let _ = stream.write_u8(byte + 1).await;
                    }
                });
            }
        });
        Ok(address)
    }

    async fn ask(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
        stream.write_u8(byte).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn what_is_held_up_arrives_afterwards() -> anyhow::Result<()> {
        for mode in [Mode::Blackhole, Mode::AnswersLost, Mode::QuestionsLost] {
            let proxy = Proxy::start(&service().await?).await?;
            let mut stream = TcpStream::connect(proxy.address()).await?;
            assert_eq!(ask(&mut stream, 1).await?, 2);
            proxy.set(mode);
            stream.write_u8(7).await?;
            assert!(timeout(SHORT, stream.read_u8()).await.is_err(), "{mode:?}");
            proxy.set(Mode::Sound);
            assert_eq!(timeout(LONG, stream.read_u8()).await??, 8, "{mode:?}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_reset_ends_what_is_there_and_what_comes() -> anyhow::Result<()> {
        let proxy = Proxy::start(&service().await?).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert_eq!(ask(&mut stream, 1).await?, 2);
        proxy.set(Mode::Reset);
        let cut = timeout(LONG, stream.read_u8()).await?.unwrap_err();
        assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset);
        let mut refused = TcpStream::connect(proxy.address()).await?;
        assert!(timeout(LONG, ask(&mut refused, 1)).await?.is_err());
        proxy.set(Mode::Sound);
        let mut again = TcpStream::connect(proxy.address()).await?;
        assert_eq!(ask(&mut again, 3).await?, 4);
        Ok(())
    }

    #[tokio::test]
    async fn slow_is_slow_and_complete() -> anyhow::Result<()> {
        let proxy = Proxy::start(&service().await?).await?;
        proxy.set(Mode::Slow);
        let mut stream = TcpStream::connect(proxy.address()).await?;
        let began = tokio::time::Instant::now();
        stream.write_all(&[1; 1000]).await?;
        let mut answer = vec![0; 1000];
        timeout(LONG, stream.read_exact(&mut answer)).await??;
        assert!(answer.iter().all(|byte| *byte == 2));
        assert!(began.elapsed() > SLOW_PAUSE * 3, "{:?}", began.elapsed());
        Ok(())
    }
}
