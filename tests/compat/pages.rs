//! A small web: pages, a search, news and a feed.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;

const HOME: &str = r#"<!DOCTYPE html>
<html lang="en"><head><title>Prices &amp; news</title>
<meta name="description" content="What it costs"><style>p { color: red }</style><script>var x = "<p>no</p>";</script></head>
<body><h1>Prices</h1>

<p>Two <b>words</b>, café &copy; 2026<br>next line
<ul><li>one<li>two</ul>
<table><tr><td>a</td><td>1</td></tr><tr><td>b<td>2</table>
<a href="/next">next</a> <a href="https://elsewhere.example/">elsewhere</a>
<!-- a note --></body></html>
"#;

/// Serves until the runtime ends.
pub(crate) async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gone = || async { (StatusCode::NOT_FOUND, Html("<h1>gone</h1>")) };
    let router = Router::new()
        .route("/", get(|| async { Html(HOME) }))
        .route(
            "/next",
            get(|| async { Html("<p>The <i>next</i> page\n\n\n\n\nends") }),
        )
        .route(
            "/long",
            get(|| async { Html(format!("<p>{}", "many words ".repeat(500))) }),
        )
        .route(
            "/moved",
            get(|| async { (StatusCode::FOUND, [(LOCATION, "/next")]) }),
        )
        .route("/gone", get(gone))
        .route(
            "/latin",
            get(|| async {
                (
                    [(CONTENT_TYPE, "text/html; charset=iso-8859-1")],
                    b"<p>caf\xe9".to_vec(),
                )
            }),
        )
        .route(
            "/html/",
            get(move |query: Query<Vec<(String, String)>>| results(address, query)),
        )
        .route("/rss/search", get(news))
        .route("/feed", get(feed))
        .route("/api/query", get(papers))
        .fallback(gone);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// As DuckDuckGo answers; the question comes back in the title.
async fn results(address: SocketAddr, Query(query): Query<Vec<(String, String)>>) -> impl IntoResponse {
    let asked = query
        .iter()
        .find(|(name, _)| name == "q")
        .map_or("", |(_, value)| value);
    let mut page = "<html><body>".to_owned();
    for path in ["", "next", "long", "gone", "moved", "latin", "beyond"] {
        page.push_str(&format!(
            r#"<div class="result results_links"><h2><a rel="nofollow" class="result__a"
            href="//duckduckgo.com/l/?uddg=http%3A%2F%2F{address}%2F{path}&amp;rut=1">About <b>{asked}</b> {path}</a></h2>
            <a class="result__snippet" href="x">What <b>it</b> says &amp; more</a></div>"#
        ));
    }
    Html(page)
}

const XML: [(axum::http::HeaderName, &str); 1] = [(CONTENT_TYPE, "application/xml")];

async fn news() -> impl IntoResponse {
    (
        XML,
        r#"<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel><title>News</title>
<item><title>Prices &lt;b&gt;fall&lt;/b&gt; &amp;amp; rise</title><link>https://news.example/1</link>
<pubDate>Sat, 21 Nov 2026 20:00:00 GMT</pubDate><description>&lt;a href="x"&gt;More&lt;/a&gt;&amp;nbsp;here</description></item>
<item><title>Second</title><link>https://news.example/2</link></item></channel></rss>"#,
    )
}

async fn feed() -> impl IntoResponse {
    let items: String = (1..9)
        .map(|n| format!("<item><title>No. {n} &amp; on</title><link>https://feed.example/{n}</link><pubDate>day {n}</pubDate><description><![CDATA[<p>text {n}</p>]]></description></item>"))
        .collect();
    (
        XML,
        format!("<?xml version=\"1.0\"?><rss><channel>{items}</channel></rss>"),
    )
}

/// As arXiv answers, with papers about what was asked.
async fn papers(Query(query): Query<Vec<(String, String)>>) -> impl IntoResponse {
    let parameter = |wanted: &str| {
        let found = query.iter().find(|(name, _)| name == wanted);
        found.map_or("", |(_, value)| value)
    };
    let asked = parameter("search_query")
        .replace('&', "&amp;")
        .replace('<', "&lt;");
    let most: usize = parameter("max_results").parse().unwrap_or(10);
    let entries: String = (1..=most.min(4))
        .map(|n| {
            let comment = if n % 2 == 0 { "" } else { "<arxiv:comment>5 pages</arxiv:comment>" };
            format!(
                r#"<entry><id>http://arxiv.org/abs/{n}</id><title>On {asked}
  &amp; more ({n})</title><updated>2026-11-2{n}T00:00:00Z</updated><link href="https://arxiv.org/abs/{n}" rel="alternate"
  type="text/html"/><link href="https://arxiv.org/pdf/{n}" rel="related" title="pdf"/><summary>  Caf&#233;s, and
what they cost.</summary><category term="cs.AI"/><category term="econ.GN"/><published>2026-11-2{n}T00:00:00Z</published>
{comment}<arxiv:primary_category term="cs.AI"/><author><name>Ann Ö. {n}</name></author><author><name>Bob</name></author></entry>"#
            )
        })
        .collect();
    (
        [(CONTENT_TYPE, "application/atom+xml; charset=utf-8")],
        format!(
            r#"<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom"
 xmlns="http://www.w3.org/2005/Atom"><title>arXiv Query</title><opensearch:totalResults>99</opensearch:totalResults>
{entries}</feed>"#
        ),
    )
}
