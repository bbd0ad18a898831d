//! Each bad value and what is said about it; several at once; relations; the example files.

use super::*;

const DATA: &str = include_str!("../../../deploy/config/data.toml");
const WITNESS: &str = include_str!("../../../deploy/config/witness.toml");

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, Path::new("/etc/smsc"))
}

/// The problems of the data node's example after `from` was replaced by `to`.
fn problems(from: &str, to: &str) -> Vec<Problem> {
    assert!(DATA.contains(from), "the example does not hold {from:?}");
    parse(&DATA.replacen(from, to, 1)).expect_err(to)
}

/// Exactly one problem, about this key, with all these words in its line.
fn check(from: &str, to: &str, key: &str, words: &[&str]) {
    let found = problems(from, to);
    assert_eq!(found.len(), 1, "{to}: {found:#?}");
    assert_eq!(found[0].key, key, "{to}");
    let line = found[0].to_string();
    for word in words {
        assert!(line.contains(word), "{to}: {line:?} lacks {word:?}");
    }
}

#[test]
fn the_examples_are_good_and_their_comments_show_the_defaults() {
    let plain = parse(DATA).unwrap();
    let witness = parse(WITNESS).unwrap();
    assert!(plain.smpp.is_some() && plain.floating_ip.is_some());
    assert!(witness.smpp.is_none() && witness.floating_ip.is_none());
    assert_eq!(plain.raft.members, witness.raft.members);
    for (text, config) in [(DATA, plain), (WITNESS, witness)] {
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        assert!(uncommented.matches(" = ").count() > text.lines().filter(|l| !l.starts_with('#')).count() / 3);
        let mut spelled_out = parse(&uncommented).unwrap();
        assert_eq!(spelled_out.raft.release_port.take(), Some(config.raft.listen.port()));
        assert_eq!(spelled_out, config);
    }
}

#[test]
fn the_least_a_data_node_needs() {
    let config = parse(
        "cluster='c'\nnode_id=7\nname='n'\nrole='data'\ndata_dir='data'\n[raft]\nlisten='127.0.0.1:7400'\n\
         [tls]\nmode='off'\n[floating_ip]\nmode='loopback'\naddresses=['127.0.0.100']\n",
    )
    .unwrap();
    assert_eq!(config.data_dir, Path::new("/etc/smsc/data"));
    assert_eq!(config.admin_socket, Path::new("/etc/smsc/data/admin.sock"));
    assert_eq!(config.raft.lease, Duration::from_millis(216));
    assert!(config.raft.members.is_empty() && config.tls.is_none() && config.http_listen.is_none());
    let floating_ip = config.floating_ip.unwrap();
    assert_eq!(floating_ip.addresses[0].net.to_string(), "127.0.0.100/32");
    assert_eq!(config.raft.release_listen().port(), 7400);
    assert_eq!(config.raft.release_addr("b:7401"), "b:7401");
    assert_eq!(config.smpp.unwrap().listen_port, 2775);
}

#[test]
fn each_bad_value_has_its_line() {
    let table: &[(&str, &str, &str, &[&str])] = &[
        ("cluster = \"demo\"", "", "cluster", &["missing", "1 to 32"]),
        ("cluster = \"demo\"", "cluster = \"a b\"", "cluster", &["\"a b\"", "1 to 32"]),
        ("cluster = \"demo\"", "cluster = 5", "cluster", &["= 5", "1 to 32"]),
        ("node_id = 1 ", "node_id = \"1\" ", "node_id", &["\"1\"", "from 1 to 255"]),
        ("node_id = 1 ", "node_id = 1.5 ", "node_id", &["1.5", "from 1 to 255"]),
        ("node_id = 1 ", "node_id = -1 ", "node_id", &["-1", "from 1 to 255"]),
        ("data_dir = \"/var/lib/smsc\"", "data_dir = \"\"", "data_dir", &["path"]),
        ("\"10.75.0.1:7400\"\n#adv", "\"10.75.0.1\"\n#adv", "raft.listen", &["\"10.75.0.1\"", "port"]),
        ("\"10.75.0.1:7400\"\n#adv", "\"host:7400\"\n#adv", "raft.listen", &["IP address"]),
        ("\"10.75.0.1:7400\"\n#adv", "\"10.75.0.1:0\"\n#adv", "raft.listen", &["from 1 to 65535"]),
        ("#advertise = \"10.75.0.1:7400\"", "advertise = \"a\"", "raft.advertise", &["\"a\"", "host and a port"]),
        ("#profile = \"lan\"", "profile = \"man\"", "raft.profile", &["\"man\"", "\"lan\", \"wan\""]),
        ("#heartbeat_ms = 50", "heartbeat_ms = 1", "raft.heartbeat_ms", &["= 1:", "5 to 10000 milliseconds"]),
        ("#election_max_ms = 240", "election_max_ms = 9999999", "raft.election_max_ms", &["30 to 120000"]),
        ("bootstrap = true", "bootstrap = \"yes\"", "raft.bootstrap", &["\"yes\"", "true or false"]),
        ("addr = \"10.75.0.2:7400\"", "addr = \"b b:1\"", "raft.members[1].addr", &["\"b b:1\""]),
        ("role = \"witness\" }", "role = \"judge\" }", "raft.members[2].role", &["\"judge\"", "\"witness\""]),
        ("ca = \"/etc/smsc/tls/ca.pem\"", "", "tls.ca", &["missing"]),
        ("#mode = \"mutual\"", "mode = \"on\"", "tls.mode", &["\"on\"", "\"mutual\", \"off\""]),
        ("#listen_port = 2775", "listen_port = 0", "smpp.listen_port", &["= 0", "1 to 65535"]),
        ("#listen_port = 2775", "listen_port = 70000", "smpp.listen_port", &["70000", "1 to 65535"]),
        ("#system_id = \"SMSC\"", "system_id = \"sixteen-letters!\"", "smpp.system_id", &["1 to 15"]),
        ("#pdu_bytes_max = 65536", "pdu_bytes_max = 15", "smpp.pdu_bytes_max", &["1024 to 1048576 octets"]),
        ("#proxy_networks = []", "proxy_networks = [\"10.0.0.0/40\"]", "smpp.proxy_networks", &["/40", "networks"]),
        ("#proxy_networks = []", "proxy_networks = \"10.0.0.1\"", "smpp.proxy_networks", &["list of networks"]),
        ("# [smpp.tls]", "[smpp.tls]\ncert = \"c\"", "smpp.tls.key", &["missing", "path"]),
        ("# [smpp.tls]", "[smpp.tls]\ncert = \"c\"\nkey = \"k\"\nca = \"x\"", "smpp.tls.ca", &["unknown"]),
        ("mode = \"interface\"", "mode = \"nic\"", "floating_ip.mode", &["\"interface\", \"loopback\""]),
        ("[\"10.75.0.100/32\"]", "[]", "floating_ip.addresses", &["missing or empty"]),
        ("[\"10.75.0.100/32\"]", "\"10.75.0.100\"", "floating_ip.addresses", &["list of addresses"]),
        ("[\"10.75.0.100/32\"]", "[\"10.75.0.100/33\"]", "floating_ip.addresses[0]", &["/33", "prefix"]),
        ("[\"10.75.0.100/32\"]", "[\"127.0.0.100\"]", "floating_ip.addresses[0]", &["loopback"]),
        ("[\"10.75.0.100/32\"]", "[\"10.75.0.1/24\"]", "floating_ip.addresses[0]", &["own address"]),
        ("[\"10.75.0.100/32\"]", "[\"10.75.0.9\", \"10.75.0.9/24\"]", "floating_ip.addresses[1]", &["twice"]),
        ("[\"10.75.0.100/32\"]", "[\"224.0.0.1\"]", "floating_ip.addresses[0]", &["one host"]),
        ("[\"10.75.0.100/32\"]", "[\"10.75.0.100 dev a/b\"]", "floating_ip.addresses[0]", &["a/b", "ip link"]),
        ("[\"10.75.0.100/32\"]", "[\"10.75.0.100 on eth0\"]", "floating_ip.addresses[0]", &["on eth0", "IP address"]),
        ("interface = \"eth0\"", "", "floating_ip.interface", &["missing", "ip link"]),
        ("interface = \"eth0\"", "interface = \"a/b\"", "floating_ip.interface", &["\"a/b\""]),
        ("#overlay_mib = 256", "overlay_mib = 1", "store.overlay_mib", &["16 to 65536 MiB"]),
        ("listen = \"127.0.0.1:9400\"", "", "http.listen", &["missing"]),
        ("#level = \"info\"", "level = \"loud\"", "log.level", &["\"loud\"", "\"warn\""]),
        ("#drain_s = 10", "drain_s = 0", "shutdown.drain_s", &["1 to 600 seconds"]),
        ("[smpp]", "[smpp]\nlisten_prot = 1", "smpp.listen_prot", &["unknown", "`listen_port`"]),
        ("[log]", "[log]\ncolour = 1", "log.colour", &["unknown", "format, level"]),
        ("[log]", "[logs]", "logs", &["unknown", "`log`"]),
    ];
    for (from, to, key, words) in table {
        check(from, to, key, words);
    }
}

#[test]
fn relations_between_good_values() {
    let table: &[(&str, &str, &str, &[&str])] = &[
        (
            "#heartbeat_ms = 50",
            "heartbeat_ms = 200",
            "raft.heartbeat_ms",
            &["200", "less than raft.election_min_ms = 190"],
        ),
        ("#election_min_ms = 190", "election_min_ms = 300", "raft.election_min_ms", &["raft.election_max_ms = 240"]),
        ("#lease_ms = 216", "lease_ms = 300", "raft.lease_ms", &["300", "raft.election_max_ms = 240"]),
        ("#lease_ms = 216", "lease_ms = 50", "raft.lease_ms", &["more than raft.heartbeat_ms = 50"]),
        (
            "#response_timer_s = 10",
            "response_timer_s = 300",
            "smpp.response_timer_s",
            &["smpp.inactivity_timer_s = 300"],
        ),
        (
            "# [smpp.tls]",
            "[smpp.tls]\nlisten_port = 2775\ncert = \"c\"\nkey = \"k\"",
            "smpp.tls.listen_port",
            &["must not be smpp.listen_port"],
        ),
        ("#enquire_link_interval_s = 30", "enquire_link_interval_s = 301", "smpp.enquire_link_interval_s", &["= 300"]),
        (
            "#disk_free_min_mib = 512",
            "disk_free_min_mib = 63",
            "store.disk_free_min_mib",
            &["store.log_segment_mib = 64"],
        ),
        ("#drain_s = 10", "drain_s = 30", "shutdown.drain_s", &["shutdown.kill_after_s = 30"]),
        ("listen = \"127.0.0.1:9400\"", "listen = \"0.0.0.0:7400\"", "http.listen", &["raft.listen"]),
        ("node_id = 1 ", "node_id = 4 ", "raft.members", &["[1, 2, 3]", "node_id = 4"]),
        ("name = \"a\"   ", "name = \"z\"   ", "raft.members[0].name", &["\"a\"", "\"z\""]),
        ("{ id = 2,", "{ id = 3,", "raft.members[2].id", &["twice"]),
        ("addr = \"10.75.0.2:7400\"", "addr = \"10.75.0.3:7400\"", "raft.members[2].addr", &["twice"]),
        ("#advertise = \"10.75.0.1:7400\"", "advertise = \"a.net:7400\"", "raft.members[0].addr", &["raft.advertise"]),
        (
            "socket = \"/run/smsc/",
            "socket = \"/run/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789/",
            "admin.socket",
            &["107"],
        ),
    ];
    for (from, to, key, words) in table {
        check(from, to, key, words);
    }
    let wide = DATA.replacen("#profile = \"lan\"", "profile = \"wan\"", 1);
    assert_eq!(parse(&wide).unwrap().raft.lease, Duration::from_millis(1080));
    let long = wide.replacen("#election_max_ms = 240", "election_max_ms = 3000", 1);
    let found = parse(&long).unwrap_err();
    assert!(found.len() == 1 && found[0].key == "floating_ip.valid_lft_s", "{found:#?}");
}

#[test]
fn smpp_through_tls_has_its_own_port_and_files() {
    let config = parse(&DATA.replacen(
        "# [smpp.tls]",
        "[smpp.tls]\ncert = \"tls/smpp.pem\"\nkey = \"/k.pem\"\nclient_ca = \"ca.pem\"",
        1,
    ));
    let config = config.expect("good");
    let tls = config.smpp.as_ref().and_then(|smpp| smpp.tls.clone()).expect("a section");
    assert_eq!((tls.listen_port, tls.cert.as_path()), (3550, Path::new("/etc/smsc/tls/smpp.pem")));
    let named: Vec<_> = config.named_files().into_iter().map(|(key, _)| key).collect();
    assert!(named.ends_with(&["smpp.tls.cert", "smpp.tls.key", "smpp.tls.client_ca"]), "{named:?}");
    let proxied = DATA.replacen("#proxy_networks = []", "proxy_networks = [\"10.75.0.9/24\", \"fd00::5\"]", 1);
    let networks = parse(&proxied).expect("good").smpp.expect("a section").proxy_networks;
    assert_eq!(networks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.75.0.0/24", "fd00::5/128"]);
}

#[test]
fn plain_text_stays_on_one_machine() {
    let files = [
        "ca = \"/etc/smsc/tls/ca.pem\"\n",
        "cert = \"/etc/smsc/tls/node-1.pem\"\n",
        "key = \"/etc/smsc/tls/node-1.key\"\n",
    ];
    let off = files
        .iter()
        .fold(DATA.replacen("#mode = \"mutual\"", "mode = \"off\"", 1), |text, line| text.replace(line, ""));
    let found = parse(&off).unwrap_err();
    assert!(found.len() == 1 && found[0].key == "tls.mode" && found[0].reason.contains("loopback"), "{found:#?}");
    let near =
        off.replacen("10.75.0.1:7400", "127.0.0.1:7400", 2).replace("\"10.75.0.1:7400\" }", "\"127.0.0.1:7400\" }");
    let found = parse(&near).unwrap_err();
    assert!(found.len() == 1 && found[0].reason.contains("10.75.0.2"), "{found:#?}");
}

#[test]
fn all_problems_come_at_once_and_no_relation_is_judged_on_a_bad_value() {
    let bad = DATA
        .replacen("node_id = 1 ", "node_id = 900 ", 1)
        .replacen("#heartbeat_ms = 50", "heartbeat_ms = 0", 1)
        .replacen("#response_timer_s = 10", "response_timer_s = \"10s\"", 1)
        .replacen("[\"10.75.0.100/32\"]", "[\"10.75.0\"]", 1)
        .replacen("#level = \"info\"", "level = \"loud\"\nlvl = 1", 1);
    let found: Vec<String> = parse(&bad).unwrap_err().iter().map(|problem| problem.key.clone()).collect();
    let keys =
        ["node_id", "raft.heartbeat_ms", "smpp.response_timer_s", "floating_ip.addresses[0]", "log.level", "log.lvl"];
    assert_eq!(found, keys);
}

#[test]
fn a_witness_serves_nobody() {
    let found =
        parse(&format!("{WITNESS}\n[smpp]\nlisten_port = 2775\n[floating_ip]\nmode = \"loopback\"\n")).unwrap_err();
    let keys: Vec<_> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["smpp", "floating_ip"]);
}

#[test]
fn files_are_loaded_with_their_place_and_missing_ones_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a.toml");
    assert!(matches!(Config::load(&file), Err(ConfigError::Unreadable { .. })));
    fs::write(&file, "cluster = ").unwrap();
    assert!(matches!(Config::load(&file), Err(ConfigError::Syntax { .. })));
    fs::write(&file, DATA.replace("/etc/smsc/tls/", "tls/")).unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    assert!(error.contains("3 problems") && error.contains("tls.key") && error.contains("smscctl cert"), "{error}");
    fs::create_dir(temp.path().join("tls")).unwrap();
    for name in ["ca.pem", "node-1.pem", "node-1.key"] {
        fs::write(temp.path().join("tls").join(name), "").unwrap();
    }
    Config::load(&file).unwrap();
}

/// Two data nodes alone with this section `[quorum]`.
fn pair(quorum: &str) -> Result<Config, Vec<Problem>> {
    let witness = "    { id = 3, name = \"w\", addr = \"10.75.0.3:7400\", role = \"witness\" },\n";
    assert!(DATA.contains(witness));
    let text = DATA.replacen(witness, "", 1);
    let start = text.find("[quorum]").expect("the example has it");
    let end = text.find("[tls]").expect("the example has it");
    parse(&format!("{}{quorum}\n{}", &text[..start], &text[end..]))
}

#[test]
fn two_nodes_alone_have_a_quorum_device() {
    assert_eq!(pair("").unwrap().quorum.device, QuorumDevice::Operator);
    assert_eq!(parse(DATA).unwrap().quorum.device, QuorumDevice::Witness);
    let fenced = pair("[quorum]\ndevice = \"fence\"\nfence_command = [\"/bin/fence\", \"off\"]").unwrap();
    let QuorumDevice::Fence(fence) = fenced.quorum.device else { panic!("a fence") };
    assert_eq!((fence.command.len(), fence.retries, fence.after), (2, 3, Duration::from_millis(500)));
}

#[test]
fn a_quorum_device_that_does_not_fit_is_told() {
    for (quorum, key, words) in [
        ("device = \"witness\"", "quorum.device", "third member"),
        ("device = \"magic\"", "quorum.device", "\"fence\""),
        ("device = \"fence\"", "quorum.fence_command", "is missing"),
        ("device = \"fence\"\nfence_command = [\"fence\"]", "quorum.fence_command", "whole path"),
        ("device = \"operator\"\nfence_command = [\"/bin/fence\"]", "quorum.fence_command", "remove it"),
        ("device = \"fence\"\nfence_command = [\"/bin/fence\"]\narm_within_s = 60", "quorum.arm_within_s", "too late"),
        ("device = \"gateway\"", "quorum.gateway", "is missing"),
        ("device = \"gateway\"\ngateway = \"router\"", "quorum.gateway", "next hop"),
        ("device = \"operator\"\ngateway = \"10.75.0.4\"", "quorum.gateway", "remove it"),
        ("devise = \"fence\"", "quorum.devise", "did you mean `device`"),
    ] {
        let found = pair(&format!("[quorum]\n{quorum}")).expect_err(quorum);
        assert_eq!(found.len(), 1, "{quorum}: {found:#?}");
        assert_eq!(found[0].key, key, "{quorum}");
        assert!(found[0].to_string().contains(words), "{quorum}: {}", found[0]);
    }
    check("#device = \"witness\"", "device = \"operator\"", "quorum.device", &["exactly two", "holds 3"]);
}
