//! Limits, errors, silence, broken streams and cancels.

use super::*;

#[tokio::test]
async fn rate_limits_are_waited_for() {
    let config = mock::Config {
        fail_first: 2,
        retry_after_s: Some(0),
        ..mock::Config::default()
    };
    let model = mock::spawn(config).await.unwrap();
    assert_eq!(
        asked(&model.base_url(), &quick()).await.0.unwrap().text,
        "echo: hi"
    );
    assert_eq!(model.requests(), 3);

    let waiting = mock::spawn(mock::Config {
        fail_first: 1,
        retry_after_s: Some(1),
        ..mock::Config::default()
    })
    .await
    .unwrap();
    let start = Instant::now();
    asked(&waiting.base_url(), &quick()).await.0.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn retries_are_bounded_and_so_are_their_waits() {
    let always = mock::Config {
        fail_first: u64::MAX,
        fail_status: 503,
        retry_after_s: Some(0),
        ..mock::Config::default()
    };
    let model = mock::spawn(always).await.unwrap();
    let error = asked(&model.base_url(), &quick()).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_error", true));
    assert!(error.message.contains("after 3 tries"), "{error}");
    assert_eq!(model.requests(), 3);

    let long = mock::Config {
        fail_first: u64::MAX,
        retry_after_s: Some(3600),
        ..mock::Config::default()
    };
    let model = mock::spawn(long).await.unwrap();
    let error = asked(&model.base_url(), &quick()).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_rate_limited", true));
    assert!(error.message.contains("asks to wait 3600 s"), "{error}");
    assert_eq!(model.requests(), 1);
}

#[tokio::test]
async fn errors_say_what_to_do_and_never_the_key() {
    let say = |message: &str| json!({"error": {"message": message}}).to_string();
    let cases = [
        (
            401,
            say("Incorrect API key provided: sk-very-secret"),
            "model_unauthorized",
            false,
            "OPENAI_API_KEY",
        ),
        (403, say("no"), "model_unauthorized", false, "OPENAI_API_KEY"),
        (
            404,
            say("model not found"),
            "model_bad_request",
            false,
            "model's name",
        ),
        (
            400,
            "not json sk-very-secret".to_owned(),
            "model_bad_request",
            false,
            "settings",
        ),
        (
            429,
            json!({"error": {"message": "quota", "code": "insufficient_quota"}}).to_string(),
            "model_rate_limited",
            false,
            "account",
        ),
    ];
    for (status, body, code, retryable, advice) in cases {
        let server = Scripted::start(vec![response(status, "", &body)]).await;
        let error = asked(&server.base, &quick()).await.0.unwrap_err();
        assert_eq!(
            (error.code, error.retryable),
            (code, retryable),
            "{status}: {error}"
        );
        assert!(error.message.contains(advice), "{error}");
        assert!(!error.message.contains("very-secret"), "{error}");
        assert_eq!(server.bodies().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_says_not_to_retry_is_obeyed() {
    let server = Scripted::start(vec![response(500, "x-should-retry: false\r\n", "{}")]).await;
    assert_eq!(
        asked(&server.base, &quick()).await.0.unwrap_err().code,
        "model_error"
    );
    assert_eq!(server.bodies().len(), 1);
}

#[tokio::test]
async fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let settings = CallLimits {
        max_retries: 1,
        ..quick()
    };
    let error = asked(&format!("http://{free}/v1"), &settings)
        .await
        .0
        .unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_unreachable", true));
    assert!(error.message.contains("OPENAI_BASE_URL"), "{error}");
}

#[tokio::test]
async fn each_timeout_ends_the_call() {
    let short = Duration::from_millis(200);
    let silent = Answer::Hang(String::new());
    let headers_only = Answer::Hang(events(""));
    let one_piece = Answer::Hang(events(&piece("a")));
    let error_body = Answer::Hang("HTTP/1.1 500 X\r\ncontent-length: 10\r\n\r\n".to_owned());
    let cases = [
        (
            silent.clone(),
            CallLimits {
                first_byte: short,
                ..quick()
            },
            "model_timeout",
        ),
        (
            headers_only,
            CallLimits {
                first_byte: short,
                ..quick()
            },
            "model_timeout",
        ),
        (
            one_piece.clone(),
            CallLimits {
                idle: short,
                ..quick()
            },
            "model_timeout",
        ),
        (
            one_piece,
            CallLimits {
                total: short,
                ..quick()
            },
            "model_timeout",
        ),
        (
            silent,
            CallLimits {
                total: short,
                ..quick()
            },
            "model_timeout",
        ),
        (
            error_body,
            CallLimits {
                idle: short,
                max_retries: 0,
                ..quick()
            },
            "model_error",
        ),
    ];
    for (answer, settings, code) in cases {
        let server = Scripted::start(vec![answer]).await;
        let start = Instant::now();
        let error = asked(&server.base, &settings).await.0.unwrap_err();
        assert_eq!((error.code, error.retryable), (code, true), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{settings:?}");
        assert_eq!(server.bodies().len(), 1, "a timeout is not tried again");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_any_text_is_asked_again() {
    let good = Answer::Close(events(&format!("{}{END}", piece("x"))));
    let broken = [
        events(""),
        events("data: {not json}\n\n"),
        events("data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        String::new(),
    ];
    for bytes in broken {
        let server = Scripted::start(vec![Answer::Close(bytes.clone()), good.clone()]).await;
        assert_eq!(
            asked(&server.base, &quick()).await.0.unwrap(),
            reply("x"),
            "{bytes}"
        );
        assert_eq!(server.bodies().len(), 2);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_text_is_not_said_twice() {
    let ends = [
        "",
        "data: {not json}\n\n",
        "data: {\"error\":{\"message\":\"overloaded\"}}\n\n",
        "data: {\"choi",
    ];
    for end in ends {
        let server = Scripted::start(vec![Answer::Close(events(&format!("{}{end}", piece("half"))))]).await;
        let (got, tokens) = asked(&server.base, &quick()).await;
        let error = got.unwrap_err();
        assert_eq!(
            (error.code, error.retryable),
            ("model_error", true),
            "{end}: {error}"
        );
        assert_eq!(tokens, ["half"]);
        assert_eq!(server.bodies().len(), 1);
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request_body(&mut stream).await.unwrap();
        stream.write_all(events("data: ").as_bytes()).await.unwrap();
        let block = vec![b'x'; 1 << 20];
        // One line without an end.
        while stream.write_all(&block).await.is_ok() {}
    });
    let error = asked(&base, &quick()).await.0.unwrap_err();
    assert_eq!((error.code, error.retryable), ("model_error", false), "{error}");
    assert!(error.message.contains("more than"), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn cancelling_ends_the_call_at_once_wherever_it_is() {
    let answers = [
        Answer::Hang(String::new()),
        Answer::Hang(events(&piece("a"))),
        response(503, "retry-after: 4\r\n", "{}"),
    ];
    for answer in answers {
        let server = Scripted::start(vec![answer]).await;
        let (ctx, _) = context(&[]);
        let chat_of = question(&ctx, &server.base);
        let cancel = ctx.cancel.clone();
        let call = tokio::spawn(async move { chat(&ctx, &chat_of, &quick()).await });
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.bodies().is_empty() {
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        let start = Instant::now();
        assert_eq!(call.await.unwrap().unwrap_err().code, "cancelled");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
