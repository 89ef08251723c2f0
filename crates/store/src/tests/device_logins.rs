use std::net::IpAddr;

use postern_model::{PrincipalId, Secret};

use super::*;
use crate::{DeviceAnswer, DeviceLogin, DeviceState};

const CLIENT: Uuid = Uuid::from_u128(7);
const PRINCIPAL: PrincipalId = PrincipalId(Uuid::from_u128(1));
const UID: ResourceUid = ResourceUid(Uuid::from_u128(2));
const APPROVED: DeviceAnswer = DeviceAnswer::Approved(PRINCIPAL, UID);

async fn begin(bench: &Bench, code: &str, source: [u8; 4]) -> Result<(), StoreError> {
    let begun = bench.now();
    let login = DeviceLogin {
        client: CLIENT,
        audience: "https://example.org".into(),
        source: IpAddr::from(source),
        begun,
        expires: begun.plus_seconds(900),
    };
    bench.store.device_logins().begin(code, &Secret::new(format!("device {code}")), &login).await
}

async fn poll(bench: &Bench, code: &str) -> DeviceState {
    bench.store.device_logins().poll(&Secret::new(format!("device {code}")), CLIENT).await.unwrap()
}

#[tokio::test]
async fn the_first_answer_counts_and_an_approval_is_told_once() {
    let bench = Bench::new().await;
    let logins = bench.store.device_logins();
    begin(&bench, "AAAA", [192, 0, 2, 1]).await.unwrap();
    assert_err!(begin(&bench, "AAAA", [192, 0, 2, 1]).await, StoreError::Conflict);
    begin(&bench, "BBBB", [192, 0, 2, 1]).await.unwrap();
    assert_eq!(poll(&bench, "AAAA").await, DeviceState::Pending);
    assert_eq!(logins.find("AAAA").await.unwrap().unwrap().source, IpAddr::from([192, 0, 2, 1]));
    assert!(logins.answer("AAAA", APPROVED).await.unwrap());
    assert!(!logins.answer("AAAA", DeviceAnswer::Declined).await.unwrap());
    assert!(!logins.answer("CCCC", APPROVED).await.unwrap());
    assert!(logins.find("AAAA").await.unwrap().is_none());
    let other = logins.poll(&Secret::new("device AAAA"), Uuid::from_u128(8)).await.unwrap();
    assert_eq!(other, DeviceState::Unknown, "another client");
    drop(logins);
    let bench = bench.reopen().await;
    let DeviceState::Approved { principal, uid, approved, audience } = poll(&bench, "AAAA").await else {
        panic!("it was approved");
    };
    assert_eq!((principal, uid, audience.as_str()), (PRINCIPAL, UID, "https://example.org"));
    assert!(approved <= bench.now());
    assert_eq!(poll(&bench, "AAAA").await, DeviceState::Unknown);
    assert_eq!(poll(&bench, "BBBB").await, DeviceState::Pending);
    assert!(bench.store.device_logins().answer("BBBB", DeviceAnswer::Declined).await.unwrap());
    assert_eq!(poll(&bench, "BBBB").await, DeviceState::Declined);
}

#[tokio::test]
async fn what_nobody_answers_expires_and_nobody_opens_too_many() {
    let bench = Bench::new().await;
    for number in 0..32 {
        begin(&bench, &format!("A{number}"), [192, 0, 2, 1]).await.unwrap();
    }
    assert_err!(begin(&bench, "B", [192, 0, 2, 1]).await, StoreError::TooManyDeviceLogins);
    begin(&bench, "B", [192, 0, 2, 2]).await.unwrap();
    assert!(bench.store.device_logins().answer("A0", APPROVED).await.unwrap());
    bench.pass(901);
    assert_eq!(poll(&bench, "A0").await, DeviceState::Expired, "approved, but not fetched in time");
    assert_eq!(poll(&bench, "A1").await, DeviceState::Expired);
    assert!(!bench.store.device_logins().answer("A1", APPROVED).await.unwrap());
    assert!(bench.store.device_logins().find("A1").await.unwrap().is_none());
    begin(&bench, "C", [192, 0, 2, 1]).await.unwrap();
    bench.pass(25 * 3600);
    begin(&bench, "D", [192, 0, 2, 1]).await.unwrap();
    assert_eq!(poll(&bench, "A1").await, DeviceState::Unknown, "forgotten");
}
