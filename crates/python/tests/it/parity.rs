//! The same flows natively and in Python, against the same model.

use std::collections::BTreeMap;
use std::sync::Arc;

use flowfleet_engine::{EngineKind, execute};
use tokio_util::sync::CancellationToken;

use crate::draw::starter;
use crate::rig::{Rig, plan, request};

#[tokio::test(flavor = "multi_thread")]
async fn starters_give_the_same_natively() {
    let rig = Rig::new(|_| {}).await;
    let mut compared = 0;
    for name in [
        "Basic Prompting",
        "Blog Writer",
        "SEO Keyword Generator",
        "Twitter Thread Generator",
    ] {
        let document = starter(name);
        let native = Arc::new(plan(&document));
        if native.engine() == EngineKind::Python {
            continue;
        }
        let asked = request("write of leases");
        if native.check(&asked).is_err() {
            continue;
        }
        let ran = rig.run(&document, &asked).await;
        let before = rig.mock.requests();
        let outcome = execute(
            &native,
            &asked,
            BTreeMap::new(),
            "run",
            &rig.services,
            Arc::new(|_| {}),
            CancellationToken::new(),
        )
        .await
        .unwrap();
        assert!(rig.mock.requests() > before, "{name}: the model was asked");
        assert_eq!(*ran.output(), outcome.output, "{name}");
        let hosted = ran.outcome.unwrap();
        assert_eq!(hosted.outputs, outcome.outputs, "{name}");
        assert_eq!(hosted.session_id, outcome.session_id, "{name}");
        assert_eq!(hosted.usage, outcome.usage, "{name}");
        compared += 1;
    }
    assert!(compared >= 2, "only {compared} starters were compared");
}
