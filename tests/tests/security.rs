//! Who gets in: every method of every service by every kind of caller, certificates, join tokens, renewal.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "security/gate.rs"]
mod gate;
#[path = "security/processes.rs"]
mod processes;
#[path = "security/queries.rs"]
mod queries;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use gate::{DAY, Gate, call, every_method, files_of, unix_now};
use sheaf_proto::v1::node_service_client::NodeServiceClient;
use sheaf_proto::v1::{EnrollNodeRequest, EnrollNodeResponse};
use sheaf_runtime::auth::{Access, Role, allowed};
use sheaf_runtime::connect::{Channel, ConnectError, Target, Trust, connect, connect_to_join};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::pki::{Authority, Token, join};
use sheaf_runtime::secret::Secret;
use sheaf_runtime::tls::{Leaf, TlsFiles, read_certificates};
use tonic::Code;

/// Asks for every method as a caller with these roles and compares with the table.
async fn check_every_method(channel: &Channel, roles: &[Role], who: &str) {
    for method in every_method() {
        let code = call(channel, method).await;
        let refused = matches!(code, Code::Unauthenticated | Code::PermissionDenied);
        let may = match allowed(method).unwrap() {
            Access::Open => true,
            Access::Roles(wanted) => wanted.iter().any(|role| roles.contains(role)),
        };
        assert_eq!(refused, !may, "{method} by {who}: {code:?}");
        assert_ne!(code, Code::Unimplemented, "{method} is in the descriptors and not served");
    }
    for unknown in ["/sheaf.v1.JobService/DropEverything", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/"] {
        let code = call(channel, unknown).await;
        assert!(matches!(code, Code::Unauthenticated | Code::PermissionDenied), "{unknown} by {who}: {code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_asks_for_a_certificate_with_its_role() {
    let gate = Gate::tls().await;
    for role in Role::ALL {
        let channel = connect(&gate.target(*role, DAY)).await.unwrap();
        check_every_method(&channel, &[*role], role.name()).await;
    }
    let stranger = connect_to_join(&gate.address(), &gate.authority.fingerprint()).await.unwrap();
    check_every_method(&stranger, &[], "a peer without a certificate").await;
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_certificate_gets_no_connection() {
    let gate = Gate::tls().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::init(&elsewhere.path().join("pki"), "other", DAY).unwrap();
    for role in Role::ALL {
        let mut files = files_of(&other, elsewhere.path(), *role, DAY);
        // It trusts this cluster, so that nothing but the cluster itself refuses it.
        std::fs::write(&files.ca, format!("{}{}", other.pem(), gate.authority.pem())).unwrap();
        let foreign = Target { address: gate.address(), trust: Trust::Tls(files.clone()) };
        let error = connect(&foreign).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("this certificate is of another authority than the cluster's"), "{error}");
        assert_eq!((error.exit(), error.retry()), (Exit::Denied, false));
        // And the other way: whoever trusts only the other authority does not talk to this cluster.
        files.ca = elsewhere.path().join("pki/ca.pem");
        let error = connect(&Target { address: gate.address(), trust: Trust::Tls(files) }).await.unwrap_err();
        assert!(matches!(error, ConnectError::Untrusted { .. }), "{error}");
    }
    // A certificate of ours that is no coordinator's cannot play the coordinator.
    let error = connect_to_join(&gate.address(), &other.fingerprint()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error}");
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_the_secret_opens_and_a_roles_secret_opens_that_role() {
    let (gate, secret) = Gate::secret().await;
    let target = |secret: Secret| Target { address: gate.address(), trust: Trust::Secret(secret) };
    let channel = connect(&target(secret.clone())).await.unwrap();
    check_every_method(&channel, Role::ALL, "a holder of the secret").await;
    for role in Role::ALL {
        let channel = connect(&target(secret.of(*role))).await.unwrap();
        check_every_method(&channel, &[*role], role.name()).await;
    }
    let stranger = connect(&target(Secret::generate().unwrap())).await.unwrap();
    check_every_method(&stranger, &[], "a stranger").await;
    gate.stop().await;
}

#[tokio::test]
async fn a_secret_does_not_leave_this_machine() {
    // An address that is never routed: the refusal comes before any packet.
    let target = Target { address: "192.0.2.1:7700".to_owned(), trust: Trust::Secret(Secret::given("canary")) };
    let error = connect(&target).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotLoopback { .. }), "{error}");
    assert!(error.to_string().contains("give --tls-ca") && !error.to_string().contains("canary"), "{error}");
    for bad in ["", "host", "host:", ":1", "host:0", "a b:1", "user@host:1", "host:99999"] {
        let target = Target { address: bad.to_owned(), ..target.clone() };
        assert!(matches!(connect(&target).await.unwrap_err(), ConnectError::Address(_)), "{bad}");
    }
}

/// A hello of TLS 1.2: no `supported_versions`, else as a client of its time would say it.
fn old_hello() -> Vec<u8> {
    let extensions: &[u8] = &[
        0x00, 0x0a, 0x00, 0x06, 0x00, 0x04, 0x00, 0x1d, 0x00, 0x17, // groups: x25519, P-256
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // point formats
        0x00, 0x0d, 0x00, 0x08, 0x00, 0x06, 0x04, 0x03, 0x08, 0x04, 0x04, 0x01, // signatures
        0x00, 0x17, 0x00, 0x00, // extended master secret
    ];
    let mut body = vec![0x03, 0x03];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0x00, 0x04, 0xc0, 0x2b, 0xc0, 0x2f, 0x01, 0x00]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut hello = vec![0x16, 0x03, 0x01];
    hello.extend((body.len() as u16 + 4).to_be_bytes());
    hello.extend([0x01, 0x00]);
    hello.extend((body.len() as u16).to_be_bytes());
    hello.extend(body);
    hello
}

#[tokio::test(flavor = "multi_thread")]
async fn older_tls_and_no_tls_are_refused() {
    let gate = Gate::tls().await;
    let address = gate.address();
    let alert = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&old_hello()).unwrap();
        let mut alert = [0; 7];
        stream.read_exact(&mut alert).unwrap();
        alert
    });
    // A fatal alert: protocol_version (70).
    assert_eq!(alert.await.unwrap(), [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 70]);

    let plain = Target { address: gate.address(), trust: Trust::Secret(Secret::given("s")) };
    let error = connect(&plain).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("is TLS wanted there"), "{error}");
    gate.stop().await;

    let (open, _) = Gate::secret().await;
    let files = open.files(Role::Client, DAY);
    let error = connect(&Target { address: open.address(), trust: Trust::Tls(files) }).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_start_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let started = |options| async { sheaf_coordinator::Coordinator::start(options).await.map(|_| ()).unwrap_err().to_string() };
    let secret = Trust::Secret(Secret::generate().unwrap());
    let mut options = gate::options(dir.path(), secret);
    options.listen = ([0, 0, 0, 0], 0).into();
    let text = started(options.clone()).await;
    assert!(text.contains("refusing to listen on 0.0.0.0:0 without TLS") && text.contains("--tls-cert"), "{text}");
    options.listen = ([127, 0, 0, 1], 0).into();
    options.enrolling = Some(sheaf_runtime::pki::Enrolling::at(dir.path()));
    assert!(started(options).await.contains("--pki needs TLS"));

    let authority = Authority::init(&dir.path().join("pki"), "test", DAY).unwrap();
    let files = files_of(&authority, dir.path(), Role::Client, DAY);
    let text = started(gate::options(dir.path(), Trust::Tls(files.clone()))).await;
    assert!(text.contains("is for the role client, not coordinator"), "{text}");
    let absent = TlsFiles { key: dir.path().join("absent.key"), ..files };
    let text = started(gate::options(dir.path(), Trust::Tls(absent))).await;
    assert!(text.contains("read the private key") && text.contains("absent.key"), "{text}");
    let served = files_of(&authority, dir.path(), Role::Coordinator, DAY);
    let mut options = gate::options(dir.path(), Trust::Tls(served));
    options.listen = ([0, 0, 0, 0], 0).into();
    sheaf_coordinator::Coordinator::start(options).await.unwrap().stop().await.unwrap();
}

/// Enrols by hand: the answer as the wire has it.
async fn enroll(gate: &Gate, token: &str, request: Vec<u8>, name: &str) -> Result<EnrollNodeResponse, tonic::Status> {
    let channel = connect_to_join(&gate.address(), &gate.authority.fingerprint()).await.unwrap();
    let request = EnrollNodeRequest { token: token.to_owned(), request, name: name.to_owned() };
    NodeServiceClient::new(channel).enroll_node(request).await.map(tonic::Response::into_inner)
}

/// A signing request for a fresh key; what it asks for beyond the key is not granted.
fn request() -> Vec<u8> {
    let mut wishes = rcgen::CertificateParams::new(vec!["coordinator.example".to_owned()]).unwrap();
    wishes.subject_alt_names.push(rcgen::SanType::URI("sheaf://role/coordinator".try_into().unwrap()));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    wishes.serialize_request(&key).unwrap().der().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_once_for_a_worker_even_through_restarts() {
    let mut gate = Gate::tls().await;
    let token = gate.authority.token(Role::Worker, DAY).unwrap();
    // A name that is wrong does not cost the token.
    let wrong = enroll(&gate, token.expose(), request(), "two words").await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument, "{wrong}");
    let first = request();
    let answer = enroll(&gate, token.expose(), first.clone(), "w1").await.unwrap();
    let certificate = gate.dir.path().join("issued.pem");
    std::fs::write(&certificate, &answer.certificate).unwrap();
    let leaf = Leaf::read(&read_certificates(&certificate).unwrap()[0]).unwrap();
    assert_eq!((leaf.name.as_str(), leaf.role, leaf.hosts.len()), ("w1", Some(Role::Worker), 0));
    // The same node, which got no answer, asks again; another one with the token does not get in.
    enroll(&gate, token.expose(), first.clone(), "w1").await.unwrap();
    for _ in 0..2 {
        let used = enroll(&gate, token.expose(), request(), "w2").await.unwrap_err();
        assert_eq!(used.code(), Code::PermissionDenied);
        assert!(used.message().contains("used already"), "{used}");
        gate = gate.restart().await;
    }
    enroll(&gate, token.expose(), first, "w1").await.unwrap();
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_hold_say_why() {
    let gate = Gate::tls().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::init(&elsewhere.path().join("pki"), "other", DAY).unwrap();
    let foreign = other.token(Role::Worker, DAY).unwrap();
    let error = enroll(&gate, foreign.expose(), request(), "w").await.unwrap_err();
    assert!(error.message().contains("is for another cluster"), "{error}");
    // Its bearer does not even get that far: the cluster is not the one that the token names.
    let path = elsewhere.path().join("token");
    std::fs::write(&path, foreign.expose()).unwrap();
    let error = join(&gate.address(), &path, "w", &elsewhere.path().join("state")).await.unwrap_err();
    assert!(error.to_string().contains("is not trusted") && !error.retry(), "{error}");

    let brief = gate.authority.token(Role::Worker, Duration::from_secs(1)).unwrap();
    let began = Instant::now();
    while gate.authority.verify_token(brief.expose()).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "the token does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let error = enroll(&gate, brief.expose(), request(), "w").await.unwrap_err();
    assert!(error.message().contains("the join token expired") && error.message().contains("make a new one"), "{error}");
    assert!(Token::read("not a token").unwrap_err().to_string().contains("whole"));
    let error =
        enroll(&gate, gate.authority.token(Role::Worker, DAY).unwrap().expose(), b"junk".to_vec(), "w").await.unwrap_err();
    assert!(error.message().contains("malformed signing request"), "{error}");
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_renews_its_certificate_and_goes_on_over_the_same_connection() {
    let life = Duration::from_secs(12);
    let gate = Gate::tls_with(life).await;
    let (token, state) = (gate.dir.path().join("token"), gate.dir.path().join("state"));
    std::fs::write(&token, gate.authority.token(Role::Worker, DAY).unwrap().expose()).unwrap();
    let target = join(&gate.address(), &token, "w1", &state).await.unwrap();
    // A restart within its life finds the certificate and needs no second token.
    let first = join(&gate.address(), &token, "w1", &state).await.unwrap();
    let Trust::Tls(files) = &first.trust else { panic!("no certificate") };
    let end = || Leaf::read(&read_certificates(&files.certificate).unwrap()[0]).unwrap().not_after;
    let (issued, channel) = (end(), connect(&target).await.unwrap());
    // Another connection with the same certificate, which nobody renews.
    let copy = TlsFiles { key: gate.dir.path().join("copy.pem"), ..files.clone() };
    std::fs::copy(&files.key, &copy.key).unwrap();
    let certificate = gate.dir.path().join("copy-certificate.pem");
    std::fs::copy(&files.certificate, &certificate).unwrap();
    let idle = Target { address: gate.address(), trust: Trust::Tls(TlsFiles { certificate, ..copy }) };
    let left = connect(&idle).await.unwrap();

    let began = Instant::now();
    while unix_now() <= issued + 2 {
        assert_eq!(call(&channel, "/grpc.health.v1.Health/Check").await, Code::Ok);
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(end() > issued, "the certificate was not renewed");
    assert_eq!(call(&left, "/grpc.health.v1.Health/Check").await, Code::Unavailable, "its certificate has expired");
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_server_certificate_is_taken_up_without_a_restart() {
    let gate = Gate::tls().await;
    let target = gate.target(Role::Client, DAY);
    connect(&target).await.unwrap();
    // One for another host: the next connection sees it and refuses.
    gate.replace_certificate("elsewhere.example");
    let error = connect(&target).await.unwrap_err();
    assert!(matches!(error, ConnectError::Untrusted { .. }), "{error}");
    // Files that are wrong change nothing.
    gate.replace_certificate("127.0.0.1");
    connect(&target).await.unwrap();
    gate.break_certificate();
    connect(&target).await.unwrap();
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_notice_that_the_other_is_cut_off() {
    let gate = Gate::tls().await;
    let wire = gate::Wire::to(gate.address()).await;
    let target = Target { address: wire.address(), ..gate.target(Role::Client, DAY) };
    let channel = connect(&target).await.unwrap();
    let mut health = gate::watch_health(&channel).await;
    assert!(health.message().await.unwrap().is_some());
    wire.cut();
    let began = Instant::now();
    let limit = Duration::from_secs(15);
    let client = async { tokio::time::timeout(limit, health.message()).await.expect("the client does not notice").unwrap_err() };
    let server = async { tokio::time::timeout(limit, wire.server_is_gone()).await.expect("the coordinator does not notice") };
    let (status, ()) = tokio::join!(client, server);
    println!("noticed within {:?}: {status}", began.elapsed());
    gate.stop().await;
}
