//! Clients that others wrote: smpplib, smpp.twisted and rusmpp (PyPI), smpp (npm), Net::SMPP (Perl), libsmpp34 (C),
//! Kannel; and Wireshark's dissector on what we send. Each is skipped, and says so, where it is not installed;
//! scripts/test installs them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use smsc_tests::lab::{Lab, program, skip, tell};

use crate::children::{Running, installed, script};

const PATIENCE: Duration = Duration::from_secs(30);

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps daemons where the PATH of users does not lead.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs a scripted client on `esme` against the floating address; its exit code is its verdict.
fn check_script(lab: &Lab, mut command: Command) {
    let target = lab.target();
    let (host, port) = target.split_once(':').expect("address and port");
    let output = command
        .args([host, port, "esme1", "secret1", "1000"])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    tell(String::from_utf8_lossy(&output.stdout).trim_end());
}

#[test]
fn smpplib_submits_and_receives() {
    let python = installed("venv/bin/python");
    if !python.exists() {
        return skip(&format!("smpplib is not installed in {}", python.display()));
    }
    let Some(lab) = Lab::up() else { return };
    let mut command = lab.command("esme", python);
    command.arg(script("smpplib_client.py"));
    check_script(&lab, command);
}

#[test]
fn node_smpp_submits_and_receives() {
    let modules = installed("node_modules");
    let Some(node) = in_path("node").filter(|_| modules.join("smpp").exists()) else {
        return skip(&format!("node, or its package smpp in {}, is not installed", modules.display()));
    };
    let Some(lab) = Lab::up() else { return };
    let mut command = lab.command("esme", node);
    command.arg(script("node_client.js")).env("NODE_PATH", modules);
    check_script(&lab, command);
}

/// A check of an ESME in another language, and why it cannot be made here if it cannot.
type Client = Result<(PathBuf, Vec<PathBuf>), String>;

fn net_smpp() -> Client {
    let has_module = |perl: &PathBuf| {
        let found = Command::new(perl).args(["-MNet::SMPP", "-e1"]).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    };
    let perl = in_path("perl").filter(has_module).ok_or("Perl's Net::SMPP is not installed")?;
    Ok((perl, vec![script("net_smpp_client.pl")]))
}

/// A program of Python that needs this package.
fn python(package: &str, program: &str) -> Client {
    let python = installed("venv/bin/python");
    let has_package = || {
        let found = Command::new(&python).args(["-c", &format!("import {package}")]).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    };
    if !has_package() {
        return Err(format!("the Python package {package} is not installed for {}", python.display()));
    }
    Ok((python.clone(), vec![script(program)]))
}

/// Built into the lab's folder.
fn libsmpp34(folder: &Path) -> Client {
    let program = folder.join("libsmpp34_client");
    let output = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(script("libsmpp34_client.c"))
        .arg("-lsmpp34")
        .output();
    match output {
        _ if !Path::new("/usr/include/libsmpp34").is_dir() => Err("libsmpp34-dev is not installed".to_owned()),
        Ok(output) if output.status.success() => Ok((program, vec![])),
        Ok(output) => panic!("libsmpp34_client.c: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => Err(format!("cc: {error}")),
    }
}

#[test]
fn clients_in_perl_c_rust_and_twisted_find_every_operation_as_they_know_it() {
    let Some(lab) = Lab::up() else { return };
    let clients = [
        net_smpp(),
        libsmpp34(&lab.state_dir),
        python("smpp.twisted", "twisted_client.py"),
        python("rusmppyc", "rusmpp_client.py"),
    ];
    for client in clients {
        match client {
            Ok((program, arguments)) => {
                let mut command = lab.command("esme", program);
                command.args(arguments);
                check_script(&lab, command);
            }
            Err(missing) => skip(&missing),
        }
    }
}

#[test]
fn kannel_submits_and_receives() {
    let (Some(bearerbox), Some(smsbox)) = (in_path("bearerbox"), in_path("smsbox")) else {
        return skip("Kannel (bearerbox, smsbox) is not installed");
    };
    let Some(lab) = Lab::up() else { return };
    // What Kannel calls when a receipt or a message has come. The socket stays in the network it was made in.
    let listener = lab.inside("esme", || TcpListener::bind("127.0.0.1:13099")).join();
    let listener = listener.expect("no panic").expect("nobody else listens there");
    let config = lab.state_dir.join("kannel.conf");
    let template = fs::read_to_string(script("kannel.conf")).expect("part of the sources");
    let logs = lab.state_dir.display().to_string();
    let (host, _) = lab.target().split_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).expect("both");
    let text = template.replace("@HOST@", &host).replace("@LOGS@", &logs);
    fs::write(&config, text).expect("the lab's folder can be written to");
    let start = |program: PathBuf| {
        let mut command = lab.command("esme", program);
        command.arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    };
    let _bearerbox = start(bearerbox);
    await_status(&lab, "online");
    let _smsbox = start(smsbox);
    await_status(&lab, "smsbox");

    let dlr = "http%3A%2F%2F127.0.0.1%3A13099%2Fdlr%3Ftype%3D%25d";
    let url = format!(
        "/cgi-bin/sendsms?username=test&password=test&from=1000&to=15550001234&text=hello&dlr-mask=31&dlr-url={dlr}"
    );
    let answer = get(&lab, 13013, &url);
    assert!(answer.contains("202"), "{answer}");
    // Type 8: accepted by the SMS centre; type 1: delivered (Kannel's user guide, delivery reports).
    let mut wanted = vec!["/dlr?type=8", "/dlr?type=1"];
    while !wanted.is_empty() {
        let line = next_call(&listener);
        wanted.retain(|call| !line.contains(&format!("{call} ")));
    }
    // A phone writes to the account's short code.
    let leader = lab.leader();
    let output = lab.ctl(&leader, &["handset", "send", "15550001234", "1000", "good morning"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line = next_call(&listener);
    assert!(line.contains("/mo?from=") && line.contains("15550001234") && line.contains("good"), "{line}");
    tell("Kannel: submitted, receipts 8 and 1, one message received");
}

/// Waits until Kannel's status page has this word in it.
fn await_status(lab: &Lab, word: &'static str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = get(lab, 13000, "/status.txt?password=test");
        if page.contains(word) {
            return;
        }
        assert!(Instant::now() < deadline, "Kannel's status never says {word}: {page}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// An HTTP request on `esme` itself; empty while nobody listens.
fn get(lab: &Lab, port: u16, url: &str) -> String {
    let url = url.to_owned();
    let fetched = lab.inside("esme", move || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {url} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut page = Vec::new();
        stream.read_to_end(&mut page)?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    });
    fetched.join().expect("no panic").unwrap_or_default()
}

/// The first line of the next HTTP request to `listener`, which is answered with 200.
fn next_call(listener: &TcpListener) -> String {
    listener.set_nonblocking(true).expect("a socket option");
    let deadline = Instant::now() + PATIENCE;
    let (stream, _) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(error) => assert!(Instant::now() < deadline, "Kannel does not call: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    stream.set_nonblocking(false).expect("a socket option");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let mut reader = BufReader::new(&stream);
    let mut first = String::new();
    reader.read_line(&mut first).expect("a request");
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|octets| octets > 2) {
        line.clear();
    }
    // Kannel may have gone already; the call was made.
    let _ = (&stream).write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    first
}

#[test]
fn wireshark_finds_nothing_malformed() {
    let Some(tshark) = in_path("tshark") else {
        return skip("tshark is not installed");
    };
    let Some(lab) = Lab::up() else { return };
    let capture = lab.state_dir.join("smpp.pcapng");
    let mut capturing = lab.command("esme", &tshark);
    capturing.args(["-q", "-i", "eth0", "-f", "tcp port 2775", "-w"]).arg(&capture);
    let child = capturing.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut capturing = Running(child.unwrap_or_else(|error| panic!("tshark: {error}")));
    // It says so when it has begun.
    let mut said = BufReader::new(capturing.0.stderr.take().expect("piped above"));
    let mut line = String::new();
    while !line.contains("Capturing on") && !line.contains("Capture started") {
        line.clear();
        let octets = said.read_line(&mut line).expect("UTF-8");
        assert!(octets > 0, "tshark does not capture");
    }
    thread::sleep(Duration::from_millis(500));

    for (size, prefix) in [("20", "1555"), ("160", "1666"), ("2000", "1555")] {
        let mut load = lab.command("esme", program("smsc-load"));
        load.args(["--target", &lab.target(), "--count", "300", "--receipts", "--size", size]);
        load.args(["--destination-prefix", prefix]);
        let output = load.output().unwrap_or_else(|error| panic!("smsc-load: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let wrong_password = lab
        .command("esme", program("smsc-load"))
        .args(["--target", &lab.target()])
        .args(["--password", "wrong", "--count", "1"])
        .output();
    assert!(!wrong_password.expect("smsc-load is there").status.success());
    // What was sent last is written a moment later.
    thread::sleep(Duration::from_secs(2));
    stop_capture(&mut capturing.0);

    let dissect = |filter: &str| {
        let output = Command::new(&tshark)
            .arg("-r")
            .arg(&capture)
            .args(["-d", "tcp.port==2775,smpp", "-Y", filter])
            .output()
            .unwrap_or_else(|error| panic!("tshark: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(dissect("_ws.malformed"), "");
    // SMPP's own command_ids: every kind of answer of ours was in the capture.
    for (name, id) in [
        ("bind_transceiver_resp", "0x80000009"),
        ("submit_sm_resp", "0x80000004"),
        ("deliver_sm", "0x00000005"),
        ("unbind_resp", "0x80000006"),
    ] {
        let frames = dissect(&format!("smpp.command_id == {id}")).lines().count();
        assert!(frames > 0, "no {name} in the capture");
    }
    let frames = dissect("smpp").lines().count();
    tell(&format!("tshark: {frames} frames with SMPP, none malformed"));
}

fn stop_capture(child: &mut Child) {
    let pid = i32::try_from(child.id()).expect("a pid");
    let sent = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT);
    sent.expect("tshark still runs");
    child.wait().expect("tshark was started");
}
