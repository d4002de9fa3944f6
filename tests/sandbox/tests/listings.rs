//! ListObjectsV2 and ListObjects.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;

use std::time::Instant;

use clients::*;

async fn walk(
    client: &aws_sdk_s3::Client,
    prefix: &str,
    delimiter: Option<&str>,
    max_keys: i32,
) -> (Vec<String>, u32) {
    let mut pages = client
        .list_objects_v2()
        .bucket("docs")
        .prefix(prefix)
        .set_delimiter(delimiter.map(str::to_owned))
        .max_keys(max_keys)
        .into_paginator()
        .send();
    let (mut names, mut count) = (Vec::new(), 0);
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        count += 1;
        let entries = page.contents().len() + page.common_prefixes().len();
        assert!(entries <= usize::try_from(max_keys).unwrap());
        assert_eq!(page.key_count(), i32::try_from(entries).ok());
        names.extend(
            page.contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
        names.extend(
            page.common_prefixes()
                .iter()
                .map(|common| format!("{}...", common.prefix().unwrap())),
        );
    }
    (names, count)
}

#[tokio::test]
async fn keys_and_common_prefixes_share_the_pages() {
    let scene = Scene::new();
    for key in ["a", "a/b", "a/c", "dir/", "dir/x", "ü", "z & <z>.txt"] {
        scene.docs.put(key, "x");
    }
    let client = scene.s3(&scene.long_term());
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let root = ["a", "a/...", "dir/...", "hello.txt", "z & <z>.txt", "ü"];
    for max_keys in [1, 2, 3, 1000] {
        let (names, pages) = walk(&client, "", Some("/"), max_keys).await;
        assert_eq!(sorted(names), root);
        assert_eq!(pages, 6_u32.div_ceil(u32::try_from(max_keys).unwrap()));
        assert_eq!(
            walk(&client, "dir/", Some("/"), max_keys).await.0,
            ["dir/", "dir/x"]
        );
        let (names, _) = walk(&client, "", None, max_keys).await;
        assert_eq!(names, scene.docs.keys());
    }
}

#[tokio::test]
async fn entries_say_what_head_says() {
    let scene = Scene::new();
    let client = scene.s3(&scene.long_term());
    let page = client
        .list_objects_v2()
        .bucket("docs")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (page.is_truncated(), page.max_keys(), page.prefix()),
        (Some(false), Some(1000), Some(""))
    );
    let entry = &page.contents()[0];
    let head = client
        .head_object()
        .bucket("docs")
        .key("hello.txt")
        .send()
        .await
        .unwrap();
    assert_eq!(entry.e_tag(), head.e_tag());
    assert_eq!(entry.size(), head.content_length());
    assert_eq!(entry.last_modified(), head.last_modified());
    assert_eq!(entry.storage_class().unwrap().as_str(), "STANDARD");
}

#[tokio::test]
async fn start_after_tokens_and_encodings() {
    let scene = Scene::new();
    scene.docs.put("a b/ü", "x");
    let client = scene.s3(&scene.long_term());
    let list = || client.list_objects_v2().bucket("docs");
    let page = list().start_after("a b/ü").send().await.unwrap();
    assert_eq!(page.contents()[0].key(), Some("hello.txt"));
    assert_eq!(page.start_after(), Some("a b/ü"));
    let page = list()
        .encoding_type(aws_sdk_s3::types::EncodingType::Url)
        .send()
        .await
        .unwrap();
    assert_eq!(page.contents()[0].key(), Some("a+b/%C3%BC"));
    let page = list().max_keys(0).send().await.unwrap();
    assert_eq!(
        (page.key_count(), page.is_truncated()),
        (Some(0), Some(false))
    );
    let page = list().max_keys(5000).send().await.unwrap();
    assert_eq!(page.max_keys(), Some(1000));
    let error = refused(list().continuation_token("made up").send().await);
    assert!(error.is(400, "InvalidArgument"), "{error:?}");
    assert_eq!(
        error.message,
        "The continuation token provided is incorrect"
    );
    assert!(refused(list().max_keys(-1).send().await).is(400, "InvalidArgument"));
}

#[tokio::test]
async fn a_hundred_thousand_keys() {
    let scene = Scene::new();
    scene.docs.put_empty_many("d/f", 100_000);
    assert_eq!(scene.docs.keys().len(), 100_001);
    assert_eq!(scene.docs.keys()[99_999], "d/f099999");
    let client = scene.s3(&scene.long_term());
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(
            walk(&client, "", Some("/"), 1000).await.0,
            ["hello.txt", "d/..."]
        );
    }
    // A walk over all keys takes seconds each time without optimisation, as the one below does.
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    let (names, pages) = walk(&client, "d/", Some("/"), 1000).await;
    assert_eq!((names.len(), pages), (100_000, 100));
    assert_eq!(names.last().unwrap(), "d/f099999");
}

#[tokio::test]
async fn the_older_listing_has_the_same_names() {
    let scene = Scene::new();
    for key in ["a", "a/b", "a/c", "dir/", "dir/x", "z & <z>.txt"] {
        scene.docs.put(key, "x");
    }
    let client = scene.s3(&scene.long_term());
    for (delimiter, expected) in [
        (None, scene.docs.keys()),
        (
            Some("/"),
            ["a", "a/", "dir/", "hello.txt", "z & <z>.txt"]
                .map(str::to_owned)
                .to_vec(),
        ),
    ] {
        let (mut names, mut marker) = (Vec::new(), None);
        loop {
            let list = client.list_objects().bucket("docs").max_keys(2);
            let list = list
                .set_delimiter(delimiter.map(str::to_owned))
                .set_marker(marker.clone());
            let page = list.send().await.unwrap();
            let keys = page.contents().iter().map(|object| object.key().unwrap());
            let prefixes = page.common_prefixes().iter().map(|p| p.prefix().unwrap());
            let mut new: Vec<String> = keys.chain(prefixes).map(str::to_owned).collect();
            new.sort();
            assert!(new.len() <= 2);
            marker = page.next_marker().map(str::to_owned);
            assert!(marker.is_none() || marker == new.last().cloned());
            marker = marker.or_else(|| new.last().cloned());
            names.extend(new);
            if page.is_truncated() != Some(true) {
                break;
            }
        }
        assert_eq!(names, expected);
    }
}
