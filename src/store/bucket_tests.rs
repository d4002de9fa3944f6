//! The gate against the sandbox, with both clocks in the test's hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use s3mfa_sandbox::{ExpiryStyle, Sandbox, policies};

use super::*;
use crate::auth::testing::{Person, aws, sessions};

struct Scene {
    sandbox: Sandbox,
    docs: s3mfa_sandbox::Bucket,
    bucket: Bucket,
    asked: Arc<AtomicU64>,
}

impl Scene {
    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    async fn head(&self, key: &str) -> Result<Object, StoreError> {
        self.bucket.head(&Asker::person(), key).await
    }
}

fn scene() -> Scene {
    let sandbox = Sandbox::start().unwrap();
    let alice = sandbox.create_user("alice");
    let device = sandbox.create_device(&alice);
    let docs = sandbox.create_bucket("docs");
    docs.set_policy(policies::require_mfa_null_age("docs"))
        .unwrap();
    for key in ["a", "open/a", "open/b", "secret/a", "secret/b"] {
        docs.put(key, key.to_owned());
    }
    let aws = aws(&sandbox);
    let asked = Arc::<AtomicU64>::default();
    let person = Person {
        device: device.clone(),
        asked: Arc::clone(&asked),
    };
    let sessions = sessions(&aws, &sandbox, &alice, &device, 7200, Arc::new(person));
    let endpoint = Endpoint {
        aws,
        region: "us-east-1".to_owned(),
        max_requests: 64,
        settings: crate::store::write::Settings::default(),
        download: Arc::new(crate::store::limit::Limit::new(None)),
        prefix: String::new(),
        remembered: None,
        pause: crate::store::s3::PAUSE,
    };
    Scene {
        bucket: Bucket::new("docs", endpoint, sessions),
        docs,
        sandbox,
        asked,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_denial_asks_nobody_on_a_fresh_session_and_on_an_old_one() {
    let scene = scene();
    let deny = [
        policies::require_mfa_null_age("docs"),
        policies::deny_get_on_prefix("docs", "secret/"),
    ];
    scene.docs.set_policy(policies::merge(&deny)).unwrap();
    scene.head("open/a").await.unwrap();
    for minutes in [0, 30] {
        scene
            .sandbox
            .clock()
            .advance(Duration::from_secs(minutes * 60));
        for key in ["secret/a", "secret/b"] {
            let denied = scene.head(key).await;
            assert!(matches!(denied, Err(StoreError::Denied(_))), "{denied:?}");
        }
        scene.head("open/b").await.unwrap();
    }
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_age_limit_asks_once_wherever_it_is_met_first() {
    for first in ["open/b", "secret/a"] {
        let scene = scene();
        scene
            .docs
            .set_policy(policies::require_fresh_mfa("docs", 3600))
            .unwrap();
        scene.head("open/a").await.unwrap();
        scene.sandbox.clock().advance(Duration::from_secs(3601));
        // In the same prefix as before, and in one that was never read.
        scene.head(first).await.unwrap();
        scene.head("open/a").await.unwrap();
        assert_eq!(scene.asked(), 2, "{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_with_its_own_age_limit_is_learned() {
    let scene = scene();
    let limit = serde_json::json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::docs/secret/*",
        "Condition": {"NumericGreaterThan": {"aws:MultiFactorAuthAge": "1800"}},
    }]});
    scene.docs.set_policy(limit).unwrap();
    scene.head("open/a").await.unwrap();
    scene.sandbox.clock().advance(Duration::from_secs(2000));
    // The session works elsewhere, so this looks like a real denial, and the log names `renew`.
    assert!(matches!(
        scene.head("secret/a").await,
        Err(StoreError::Denied(_))
    ));
    assert_eq!(scene.asked(), 1);
    scene
        .bucket
        .sessions
        .ask_now(scene.bucket.sessions.now(), None, &Asker::person())
        .await
        .unwrap();
    scene.head("secret/a").await.unwrap();
    // From now on it is known, even in a generation in which it was not read.
    scene.sandbox.clock().advance(Duration::from_secs(7200));
    scene.head("open/a").await.unwrap();
    assert_eq!(scene.asked(), 3);
    scene.sandbox.clock().advance(Duration::from_secs(2000));
    scene.head("secret/a").await.unwrap();
    assert_eq!(scene.asked(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_style_of_expiry_leads_to_one_question() {
    let styles = [
        ExpiryStyle::Expired400,
        ExpiryStyle::Expired403,
        ExpiryStyle::AccessDenied403,
        ExpiryStyle::AccessDeniedException403,
        ExpiryStyle::BareHead400,
        ExpiryStyle::BareHead403,
    ];
    let scene = scene();
    scene.head("a").await.unwrap();
    for (before, style) in (1..).zip(styles) {
        scene.sandbox.expiry_style(style);
        scene.sandbox.sessions().expire_all();
        let (one, other) = tokio::join!(scene.head("a"), scene.head("a"));
        assert!(one.is_ok() && other.is_ok(), "{style:?}");
        assert_eq!(scene.asked(), before + 1, "{style:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_key_was_deleted_is_renewed() {
    let scene = scene();
    scene.head("a").await.unwrap();
    scene.sandbox.sessions().revoke_all();
    scene.head("a").await.unwrap();
    assert_eq!(scene.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_at_once_ask_one_question() {
    let scene = Arc::new(scene());
    scene.head("a").await.unwrap();
    scene.sandbox.sessions().expire_all();
    let heads: Vec<_> = (0..300)
        .map(|_| {
            let scene = Arc::clone(&scene);
            tokio::spawn(async move { scene.head("a").await.map(drop) })
        })
        .collect();
    for head in heads {
        head.await.unwrap().unwrap();
    }
    assert_eq!(scene.asked(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_key_is_absent_and_a_broken_server_is_not() {
    let scene = scene();
    assert!(matches!(
        scene.head("absent").await,
        Err(StoreError::NotFound)
    ));
    let always = s3mfa_sandbox::FOREVER;
    let any = s3mfa_sandbox::Matcher::any();
    scene
        .sandbox
        .faults()
        .status(any, 403, "SignatureDoesNotMatch", always);
    let broken = scene.head("a").await;
    assert!(
        matches!(broken, Err(StoreError::Signature(_))),
        "{broken:?}"
    );
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_accepts_a_session_asks_for_no_other() {
    let scene = scene();
    let person = Asker::person();
    let now = scene.bucket.sessions.now();
    scene
        .bucket
        .sessions
        .ask_now(now, None, &person)
        .await
        .unwrap();
    scene.sandbox.sessions().revoke_all();
    for _ in 0..3 {
        let refused = scene.head("a").await;
        assert!(
            matches!(refused, Err(StoreError::Service(_))),
            "{refused:?}"
        );
    }
    assert_eq!(scene.asked(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_ends_no_session() {
    let scene = scene();
    scene.head("secret/a").await.unwrap();
    scene.sandbox.clock().advance(Duration::from_secs(1800));
    let deny = [
        policies::require_mfa_null_age("docs"),
        policies::deny_get_on_prefix("docs", "secret/b"),
    ];
    scene.docs.set_policy(policies::merge(&deny)).unwrap();
    let denied = scene.bucket.head(&Asker::nobody(), "secret/b").await;
    assert!(matches!(denied, Err(StoreError::Denied(_))), "{denied:?}");
    assert!(scene.bucket.sessions.live().is_some());
    scene.head("secret/a").await.unwrap();
    assert_eq!(scene.asked(), 1);
}
