//! What is done to a message while its link has it, and what comes later than it should.

use smsc_proto::pdu::{AlertNotification, CancelSm};
use smsc_raft::model::{Finish, NumberPlan, Replace};

use super::*;

/// cancel_sm as the front end proposes it.
fn cancelled(id: u64) -> Op {
    let at_ms = SystemClock.wall().as_millis();
    let account = "one".to_owned();
    Op::Finish(Finish { id, state: MessageState::Deleted as i32, at_ms, account, ..Default::default() })
}

/// replace_sm as the front end proposes it.
fn replaced(id: u64) -> Op {
    let short_message = Bytes::from_static(b"new");
    Op::Replace(Replace { id, account: "one".to_owned(), short_message, registered_delivery: 1, ..Default::default() })
}

impl Bound {
    async fn cancel(&mut self) -> (Ticket, CancelSm) {
        loop {
            if let Event::Request { ticket, body: Body::CancelSm(cancel) } = self.event().await {
                return (ticket, cancel);
            }
        }
    }
}

impl Centre {
    async fn propose(&self, op: Op) -> Outcome {
        self.store.propose(op).await.expect("stored")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_the_answer_is_awaited_is_the_end_whatever_comes() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    for (round, answer) in [CommandStatus::ESME_ROK, CommandStatus::ESME_RINVDSTADR].into_iter().enumerate() {
        let to = format!("1555{round}");
        let id = centre.submit(&to, |_| ()).await;
        let (ticket, _) = bound.submit().await;
        // The number's next message waits for the answer, not for the end.
        let next = centre.submit(&to, |_| ()).await;
        assert!(matches!(centre.propose(cancelled(id)).await, Outcome::Finished { .. }));
        assert!(matches!(centre.propose(cancelled(id)).await, Outcome::AlreadyFinal(_)));
        assert!(matches!(centre.propose(replaced(id)).await, Outcome::AlreadyFinal(_)));
        match answer {
            CommandStatus::ESME_ROK => {
                bound.accept(ticket, "c1");
                // The phone may not have it yet.
                let (ticket, cancel) = bound.cancel().await;
                assert_eq!(
                    (cancel.message_id.as_bytes(), cancel.source_addr.addr.as_ref()),
                    (&b"c1"[..], &b"1000"[..])
                );
                bound.ask(Ask::Refuse(ticket, RefusalStatus::ESME_RCANCELFAIL));
            }
            _ => bound.ask(Ask::Refuse(ticket, RefusalStatus::ESME_RINVDSTADR)),
        }
        let (ticket, _) = bound.submit().await;
        bound.accept(ticket, &format!("n{round}"));
        centre.handed_over(next).await;
        // The phone got it all the same: the receipt is taken, so that it does not come for ever, and changes nothing.
        let token = 10 * round as u64;
        if answer == CommandStatus::ESME_ROK {
            bound.receipt(token, &to, "c1", "DELIVRD");
            assert_eq!(bound.answered(token).await.status, CommandStatus::ESME_ROK);
        }
        bound.receipt(token + 1, &to, &format!("n{round}"), "DELIVRD");
        assert_eq!(centre.ended(next).await.state(), MessageState::Delivered);
        let record = centre.ended(id).await;
        assert_eq!((record.state(), record.attempts), (MessageState::Deleted, 0));
    }
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_while_the_answer_is_awaited_is_not_sent_if_the_first_text_was_taken() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let settings = model::Settings { retry_delays_ms: vec![50], ..Default::default() };
    centre.propose(Op::SettingsPut(model::SettingsPut { settings: Some(settings) })).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    // Refused for now: the new text goes out at the next attempt.
    let id = centre.submit("15551", |_| ()).await;
    let (ticket, first) = bound.submit().await;
    assert_eq!(first.short_message, "hello");
    assert!(matches!(centre.propose(replaced(id)).await, Outcome::Stored(same) if same == id));
    bound.ask(Ask::Refuse(ticket, RefusalStatus::ESME_RSYSERR));
    let (ticket, second) = bound.submit().await;
    assert_eq!(second.short_message, "new");
    // Taken: what is asked for now comes too late, also in the moment before the answer is recorded.
    bound.accept(ticket, "a1");
    centre.handed_over(id).await;
    assert!(matches!(centre.propose(replaced(id)).await, Outcome::Waiting(_)));
    assert!(matches!(centre.propose(cancelled(id)).await, Outcome::Waiting(_)));
    bound.receipt(1, "15551", "a1", "DELIVRD");
    assert_eq!(centre.ended(id).await.state(), MessageState::Delivered);

    let id = centre.submit("15552", |_| ()).await;
    let (ticket, _) = bound.submit().await;
    assert!(matches!(centre.propose(replaced(id)).await, Outcome::Stored(_)));
    bound.accept(ticket, "a2");
    centre.handed_over(id).await;
    bound.receipt(2, "15552", "a2", "DELIVRD");
    let record = centre.ended(id).await;
    assert_eq!((record.state(), record.attempts), (MessageState::Delivered, 1));
    // The next that goes over is another message: nothing was sent twice.
    centre.submit("15553", |_| ()).await;
    assert_eq!(bound.submit().await.1.destination_addr.addr.as_ref(), b"15553");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_called_back_in_all_of_its_parts() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    for (round, answers) in [[true, true], [true, false]].into_iter().enumerate() {
        let to = format!("1555{round}");
        let id = centre.submit(&to, |submission| submission.short_message = vec![b'x'; 400].into()).await;
        for part in 0..3 {
            let (ticket, _) = bound.submit().await;
            bound.accept(ticket, &format!("0{round}A{part}"));
        }
        centre.handed_over(id).await;
        // What has been reported on cannot be cancelled any more.
        let token = round as u64;
        bound.receipt(token, &to, &format!("0{round}A1"), "DELIVRD");
        assert_eq!(bound.answered(token).await.status, CommandStatus::ESME_ROK);
        let message = centre.store.read(|machine| machine.message(id)).expect("read").expect("it waits");
        let called = serving.links.call_back(message);
        for (part, granted) in [0, 2].into_iter().zip(answers) {
            let (ticket, cancel) = bound.cancel().await;
            assert_eq!(cancel.message_id.as_str(), Some(format!("0{round}A{part}").as_str()));
            assert_eq!(cancel.destination_addr.addr.as_ref(), to.as_bytes());
            match granted {
                true => bound.ask(Ask::Answer(
                    ticket,
                    CommandStatus::ESME_ROK,
                    Box::new(Body::CancelSmResp(Default::default())),
                )),
                false => bound.ask(Ask::Refuse(ticket, RefusalStatus::ESME_RCANCELFAIL)),
            }
        }
        assert_eq!(called.await, Ok(answers == [true, true]));
    }
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_comes_after_the_end_changes_nothing() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |link| link.receipt_grace_s = 1).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    let soon = SystemClock.wall().as_millis() + 2_000;
    let id = centre.submit("15551", |submission| submission.expires_at_ms = soon).await;
    let (ticket, _) = bound.submit().await;
    bound.accept(ticket, "1");
    let before = centre.ended(id).await;
    assert_eq!(before.state(), MessageState::Unknown);
    bound.receipt(1, "15551", "1", "DELIVRD");
    assert_eq!(bound.answered(1).await.status, CommandStatus::ESME_ROK);
    assert_eq!(centre.ended(id).await, before);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_moves_all_that_waits_for_the_number_however_it_is_written() {
    let (centre, peer) = (Centre::start().await, Peer::start().await);
    centre.link(&peer, |_| ()).await;
    let number_plan =
        NumberPlan { country_code: "49".to_owned(), national_prefix: "0".to_owned(), ..Default::default() };
    let settings =
        model::Settings { retry_delays_ms: vec![3_600_000], number_plan: Some(number_plan), ..Default::default() };
    centre.propose(Op::SettingsPut(model::SettingsPut { settings: Some(settings) })).await;
    let serving = centre.serve();
    let mut bound = peer.bound().await;
    let to = "4915112345671";
    let mut alerts = vec![Address::international(to).expect("short")];
    alerts.push(Address { ton: Ton::NATIONAL, npi: Npi::ISDN, addr: "015112345671".parse().expect("short") });
    for (round, alert) in alerts.into_iter().enumerate() {
        let [first, second] = [centre.submit(to, |_| ()).await, centre.submit(to, |_| ()).await];
        let (ticket, _) = bound.submit().await;
        bound.ask(Ask::Refuse(ticket, RefusalStatus::ESME_RX_T_APPN));
        let waits = async {
            while centre.store.read(|machine| machine.message(first)).expect("read").is_none_or(|m| m.attempts == 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, waits).await.expect("the failure is recorded");
        let alert = AlertNotification {
            source_addr: alert.into(),
            esme_addr: Address::international("1000").expect("short").into(),
            ..Default::default()
        };
        bound.ask(Ask::Notify(Box::new(Body::AlertNotification(alert))));
        for (part, id) in [first, second].into_iter().enumerate() {
            let (ticket, _) = bound.submit().await;
            let message_id = format!("r{round}p{part}");
            bound.accept(ticket, &message_id);
            centre.handed_over(id).await;
            bound.receipt((10 * round + part) as u64, to, &message_id, "DELIVRD");
            assert_eq!(centre.ended(id).await.state(), MessageState::Delivered);
        }
    }
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_centre_that_throttles_slows_down_its_own_link_alone() {
    let (centre, slow, quick) = (Centre::start().await, Peer::start().await, Peer::start().await);
    centre.link(&slow, |_| ()).await;
    centre.link(&quick, |link| link.name = "c2".to_owned()).await;
    let serving = centre.serve();
    let (mut slow, mut quick) = (slow.bound().await, quick.bound().await);
    let held = centre.submit("15550", |_| ()).await;
    let mut complaints = 0;
    for number in 1..=20u32 {
        // Always one that is refused under way, and others behind it.
        centre.submit(&format!("1555{number}"), |_| ()).await;
        let id = centre.submit(&format!("1666{number}"), |submission| submission.link = "c2".to_owned()).await;
        let (ticket, submit) = loop {
            tokio::select! {
                (ticket, _) = slow.submit() => {
                    complaints += 1;
                    let status = [RefusalStatus::ESME_RTHROTTLED, RefusalStatus::ESME_RMSGQFUL][complaints % 2];
                    slow.ask(Ask::Refuse(ticket, status));
                }
                submitted = quick.submit() => break submitted,
            }
        };
        assert!(submit.destination_addr.addr.as_ref().starts_with(b"1666"));
        quick.accept(ticket, &format!("q{number}"));
        centre.handed_over(id).await;
    }
    assert!(complaints > 0);
    let waiting = centre.store.read(|machine| machine.message(held)).expect("read").expect("it waits");
    assert!(waiting.handed.is_none());
    let rows = centre.metrics.links.rows();
    let [own, other] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((own.name.as_str(), other.name.as_str()), ("c1", "c2"));
    assert_eq!((own.counts.accepted, other.counts.throttled, other.rate_per_s), (0, 0, None));
    serving.stop().await;
}
