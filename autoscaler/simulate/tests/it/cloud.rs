//! The cloud by itself.

use flowfleet_plan::Lifecycle;
use flowfleet_simulate::{Cloud, CloudSettings, Happening, Refusals, Zone, read_availability};

fn cloud(settings: CloudSettings) -> Cloud {
    Cloud::new(settings, vec![], 1)
}

#[test]
fn machines_boot_and_are_billed_from_their_launch_by_the_second() {
    let mut cloud = cloud(CloudSettings::default());
    let id = cloud.launch(0.0, Lifecycle::Spot, 1, 4, "a").machines[0];
    let (ready_s, what) = cloud.advance(1_000.0).expect("it boots");
    assert_eq!(what, Happening::Ready(id));
    assert!((70.0..110.0).contains(&ready_s));
    cloud.terminate(3_600.0, id);
    cloud.terminate(9_999.0, id);
    let billed = cloud.billed(9_999.0)[&Lifecycle::Spot];
    assert!((billed - 1.4).abs() < 1e-9, "{billed}");
}

#[test]
fn a_minute_is_billed_at_least() {
    let mut cloud = cloud(CloudSettings::default());
    let id = cloud.launch(0.0, Lifecycle::OnDemand, 1, 1, "").machines[0];
    cloud.terminate(1.0, id);
    let billed = cloud.billed(1.0)[&Lifecycle::OnDemand];
    assert!((billed - 1.0 / 60.0).abs() < 1e-9, "{billed}");
}

#[test]
fn a_token_launches_once() {
    let mut cloud = cloud(CloudSettings::default());
    let first = cloud.launch(0.0, Lifecycle::Spot, 3, 4, "tick-7");
    assert_eq!(cloud.launch(5.0, Lifecycle::Spot, 3, 4, "tick-7"), first);
    assert_eq!(cloud.len(), 3);
}

#[test]
fn launches_are_refused_for_a_time() {
    let mut cloud = cloud(CloudSettings {
        refusals: vec![Refusals {
            lifecycle: Lifecycle::Spot,
            from_s: 10.0,
            to_s: 20.0,
        }],
        ..CloudSettings::default()
    });
    assert_eq!(cloud.launch(9.0, Lifecycle::Spot, 1, 4, "").refused, None);
    let refused = cloud.launch(10.0, Lifecycle::Spot, 1, 4, "");
    assert_eq!(refused.refused, Some("InsufficientInstanceCapacity"));
    assert_eq!(cloud.launch(10.0, Lifecycle::OnDemand, 1, 4, "").refused, None);
    assert_eq!(cloud.launch(20.0, Lifecycle::Spot, 1, 4, "").refused, None);
}

#[test]
fn a_zone_that_ends_takes_its_machines_with_two_minutes_notice() {
    let availability =
        read_availability(b"start_s,available\n0,1\n500,0\n900,1\n10000,-1\n").expect("it reads");
    let zone = |name: &str, price: f64| Zone {
        name: name.into(),
        price,
        availability: availability.clone(),
    };
    let mut cloud = Cloud::new(CloudSettings::default(), vec![zone("a", 1.0), zone("b", 0.9)], 1);
    let id = cloud.launch(0.0, Lifecycle::Spot, 1, 4, "").machines[0];
    let price = cloud.usd_per_hour(id).expect("it is there");
    assert!((price - 1.4 * 0.9).abs() < 1e-9, "the cheaper zone: {price}");
    assert!(matches!(cloud.advance(200.0), Some((_, Happening::Ready(_)))));
    let (noticed_s, notice) = cloud.advance(600.0).expect("a notice");
    assert!((500.0..560.0).contains(&noticed_s));
    assert_eq!(notice, Happening::Notice(id, noticed_s + 120.0));
    assert_eq!(
        cloud.launch(600.0, Lifecycle::Spot, 1, 4, "").refused,
        Some("InsufficientInstanceCapacity")
    );
    assert_eq!(
        cloud.advance(800.0),
        Some((noticed_s + 120.0, Happening::Gone(id)))
    );
    assert!(cloud.is_empty());
    assert_eq!(cloud.launch(900.0, Lifecycle::Spot, 1, 4, "").refused, None);
}
