//! Records of networks and endpoints.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

use bulkhead_store::{
    ContainerRecord, Durability, Endpoint, Error, Kind, NetworkRecord, Places, PodRecord, Store,
};
use bulkhead_testkit::Scratch;

fn open(scratch: &Scratch) -> Store {
    Store::open(&Places { root: scratch.path().join("root"), run: scratch.path().join("run") }).unwrap()
}

fn endpoint(owner: &str, network: &str, last: u8) -> Endpoint {
    Endpoint {
        owner: owner.to_owned(),
        network: network.to_owned(),
        position: 0,
        ipv4: Some([10, 0, 0, last].into()),
        ipv6: None,
        document: "{}".to_owned(),
    }
}

fn keep(store: &Store, endpoint: &Endpoint) -> Result<(), Error> {
    store.connect(Durability::Process, |connected| connected.keep(endpoint))
}

#[test]
fn three_networks_are_always_there_and_others_have_names_of_their_own() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let names = |store: &Store| Vec::from_iter(store.networks().unwrap().into_iter().map(|found| found.name));
    assert_eq!(names(&store), ["bridge", "host", "none"]);
    let bridge = store.network("bridge").unwrap();
    assert_eq!((bridge.id.len(), bridge.document.as_str()), (64, r#"{"driver":"bridge"}"#));
    assert!(bridge.created > 1_700_000_000_000_000_000, "in nanoseconds: {}", bridge.created);
    assert_eq!(store.network(&bridge.id[..12]).unwrap(), bridge);

    let new = NetworkRecord::new(&"a".repeat(64), "front");
    store.insert_network(|_| Ok(new.clone())).unwrap();
    assert_eq!(store.network("front").unwrap(), new);
    let again = store.insert_network(|_| Ok(NetworkRecord::new(&"b".repeat(64), "front"))).unwrap_err();
    assert_eq!(again.kind(), Kind::Conflict);
    assert_eq!(store.network("nobody").unwrap_err().kind(), Kind::NotFound);
    drop(store);
    assert_eq!(names(&open(&scratch)), ["bridge", "front", "host", "none"]);
}

#[test]
fn a_network_knows_which_addresses_were_handed_out_last() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let network = NetworkRecord::new(&"a".repeat(64), "front");
    store.insert_network(|_| Ok(network.clone())).unwrap();
    let last = |is_v4| store.connected(|connected| connected.last_handed_out(&network.id, is_v4)).unwrap();
    assert_eq!((last(true), last(false)), (None, None));
    for address in ["10.0.0.9", "fd00::9", "10.0.0.10"] {
        let address = address.parse().unwrap();
        store.connect(Durability::Process, |connected| connected.hand_out(&network.id, address)).unwrap();
    }
    assert_eq!((last(true), last(false)), ("10.0.0.10".parse().ok(), "fd00::9".parse().ok()));
}

#[test]
fn an_address_is_one_endpoint_s_and_goes_with_its_owner_or_its_network() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let (one, other, pod) = ("1".repeat(64), "2".repeat(64), "3".repeat(64));
    for (id, name) in [(&one, "one"), (&other, "other")] {
        let record = ContainerRecord::new(id, name, None);
        store.insert_container(&record, &[], Durability::Process, None).unwrap();
    }
    store.insert_pod(&PodRecord::new(&pod, "pod")).unwrap();
    let network = NetworkRecord::new(&"a".repeat(64), "front");
    store.insert_network(|_| Ok(network.clone())).unwrap();
    keep(&store, &endpoint(&one, &network.id, 2)).unwrap();
    keep(&store, &endpoint(&pod, &network.id, 3)).unwrap();
    let of = |owner: &str| store.connected(|connected| connected.endpoints_of(owner)).unwrap();
    assert_eq!(of(&one), [endpoint(&one, &network.id, 2)]);

    // Nobody else gets it while it is there.
    let taken = store.connect(Durability::Process, |connected| {
        let used = connected.endpoints_in(&network.id)?;
        assert_eq!(used.len(), 2);
        Ok(used.iter().any(|used| used.ipv4 == Some([10, 0, 0, 2].into())))
    });
    assert!(taken.unwrap());
    store.delete_container(&one, None).unwrap();
    assert_eq!(of(&one), []);
    keep(&store, &endpoint(&other, &network.id, 2)).unwrap();
    store.delete_pod(&pod).unwrap();
    assert_eq!(of(&pod), []);

    store.begin_network_removal(&network.id).unwrap();
    assert_eq!(keep(&store, &endpoint(&pod, &network.id, 4)).unwrap_err().kind(), Kind::NotFound);
    store.delete_network(&network.id).unwrap();
    store.delete_network(&network.id).unwrap();
    assert_eq!(of(&other), []);
}

#[test]
fn an_address_that_is_taken_is_an_error_and_what_has_it_keeps_it() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let network = NetworkRecord::new(&"a".repeat(64), "front");
    store.insert_network(|_| Ok(network.clone())).unwrap();
    let (one, other) = (endpoint(&"1".repeat(64), &network.id, 2), endpoint(&"2".repeat(64), &network.id, 3));
    keep(&store, &one).unwrap();
    keep(&store, &other).unwrap();
    let of_v6 = |last: u16| Some([0xfd00, 0, 0, 0, 0, 0, 0, last].into());
    for taking in [endpoint(&"3".repeat(64), &network.id, 2), Endpoint { ipv4: one.ipv4, ..other.clone() }] {
        keep(&store, &taking).unwrap_err();
    }
    let all = || store.connected(|connected| connected.endpoints_in(&network.id)).unwrap();
    assert_eq!(all(), [one.clone(), other.clone()]);
    // The own one is changed.
    let one = Endpoint { position: 4, ipv4: Some([10, 0, 0, 9].into()), ipv6: of_v6(9), ..one };
    keep(&store, &one).unwrap();
    keep(&store, &Endpoint { ipv6: of_v6(9), ..other.clone() }).unwrap_err();
    assert_eq!(all(), [one, other]);
}
