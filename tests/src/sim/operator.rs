//! What is set up at the beginning, and what operators and housekeeping do to messages meanwhile.

use std::io;

use smsc_node::delivery::receipt;
use smsc_raft::machine::Machine;
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{
    Account, AccountPut, Command, Finish, HandsetPut, HandsetRange, MessageKind, MessageState, Purge, QueueKind,
    QueueWake, Replace, SessionsForget, Settings, SettingsPut, command::Op,
};

use super::world::World;

/// system_id and short code of the accounts.
pub const ACCOUNTS: [(&str, &str); 2] = [("esme1", "1000"), ("esme2", "2000")];
/// Unanswered requests that either side of a session may have.
pub const WINDOW: u32 = 8;
/// Prefixes of handsets, what they do, and how long they are absent.
const HANDSETS: [(&str, Behaviour, u32); 3] =
    [("1555", Behaviour::Deliver, 0), ("1666", Behaviour::Fail, 0), ("1777", Behaviour::Absent, 700)];
/// How often scheduled messages are looked for.
const PROMOTE_MS: u64 = 250;

/// The commands with which a world begins.
pub fn set_up(world: &mut World) -> Vec<Command> {
    let account = |(system_id, code): (&str, &str)| Account {
        system_id: system_id.to_owned(),
        may_transmit: true,
        may_receive: true,
        short_codes: vec![code.to_owned()],
        window: WINDOW,
        ..Account::default()
    };
    let accounts = ACCOUNTS.map(|names| Op::AccountPut(AccountPut { account: Some(account(names)) }));
    let settings = Settings {
        retry_delays_ms: vec![150, 600, 1_500],
        receipt_validity_s: 3_600,
        final_retention_s: if world.chance.one_in(2) { 2 } else { 3_600 },
        ..Settings::default()
    };
    let settings = Op::SettingsPut(SettingsPut { settings: Some(settings) });
    let handsets = HANDSETS.map(|(prefix, behaviour, absent_ms)| {
        let delay_ms = u32::try_from(world.chance.between(0, 40)).expect("a small number");
        range(prefix, behaviour, absent_ms, delay_ms)
    });
    let all = accounts.into_iter().chain([settings]).chain(handsets);
    all.map(|op| Command { op: Some(op) }).collect()
}

/// The commands after which everything works.
pub fn repair() -> Vec<Command> {
    let handsets = HANDSETS.map(|(prefix, behaviour, absent_ms)| range(prefix, behaviour, absent_ms, 5));
    handsets.map(|op| Command { op: Some(op) }).into()
}

fn range(prefix: &str, behaviour: Behaviour, absent_ms: u32, delay_ms: u32) -> Op {
    let range = HandsetRange {
        prefix: prefix.to_owned(),
        behaviour: behaviour as i32,
        absent_ms,
        delay_ms,
        ..Default::default()
    };
    Op::HandsetPut(HandsetPut { range: Some(range) })
}

/// What happens to messages beside delivery, while one leader serves.
#[derive(Debug)]
pub struct Operator {
    term: u64,
    act_ms: u64,
    promote_ms: u64,
    purge_ms: u64,
    forget_ms: u64,
}

impl Operator {
    /// A leader of this term begins to serve.
    pub fn new(world: &World, term: u64) -> Self {
        let now_ms = world.now_ms();
        Self { term, act_ms: now_ms, promote_ms: now_ms, purge_ms: now_ms + 500, forget_ms: now_ms + 2_000 }
    }

    /// When there is something to do.
    pub fn next_ms(&self) -> u64 {
        self.act_ms.min(self.promote_ms).min(self.purge_ms).min(self.forget_ms)
    }

    /// What is to be put into the log now.
    ///
    /// # Errors
    /// The machine cannot be read.
    pub fn step(&mut self, world: &mut World, machine: &Machine, now_ms: u64) -> io::Result<Vec<Command>> {
        let mut ops = Vec::new();
        let true_ms = world.now_ms();
        if self.promote_ms <= true_ms {
            self.promote_ms = true_ms + PROMOTE_MS;
            if machine.next_scheduled_ms().is_some_and(|due_ms| due_ms <= now_ms) {
                ops.push(Op::Purge(Purge { final_before_ms: 0 }));
            }
        }
        if self.purge_ms <= true_ms {
            self.purge_ms = true_ms + 700;
            let keep_ms = machine.settings().final_retention_s * 1_000;
            ops.push(Op::Purge(Purge { final_before_ms: now_ms.saturating_sub(keep_ms) }));
        }
        if self.forget_ms <= true_ms {
            self.forget_ms = u64::MAX;
            ops.push(Op::SessionsForget(SessionsForget { before_term: self.term }));
        }
        if self.act_ms <= true_ms {
            self.act_ms = true_ms + world.chance.between(20, 400);
            if !world.calm {
                ops.extend(act(world, machine, now_ms)?);
            } else {
                self.act_ms = u64::MAX;
            }
        }
        Ok(ops.into_iter().map(|op| Command { op: Some(op) }).collect())
    }
}

/// How receipts of what is cancelled are made.
const TERMS: receipt::Terms = receipt::Terms { validity_s: 3_600, utc_offset_min: 0, to_submitter: false };

/// Cancels, replaces, or wakes; or handsets behave otherwise for a while.
fn act(world: &mut World, machine: &Machine, now_ms: u64) -> io::Result<Option<Op>> {
    let chance = &mut world.chance;
    if chance.one_in(8) {
        let (prefix, _, absent_ms) = HANDSETS[chance.index(2)];
        let behaviour = [Behaviour::Deliver, Behaviour::Absent, Behaviour::Fail][chance.index(3)];
        return Ok(Some(range(prefix, behaviour, absent_ms.max(300), 20)));
    }
    let waiting = machine.messages_from(0, 40)?;
    if waiting.is_empty() {
        return Ok(None);
    }
    let message = &waiting[chance.index(waiting.len())];
    let Some(submission) = &message.submission else { return Ok(None) };
    let op = match chance.index(4) {
        0 if submission.kind() != MessageKind::Receipt => Op::Finish(Finish {
            id: message.id,
            state: MessageState::Deleted as i32,
            at_ms: now_ms,
            receipt: receipt::submission(message, MessageState::Deleted, now_ms, 0, TERMS),
            ..Finish::default()
        }),
        1 if submission.kind() == MessageKind::Submitted => Op::Replace(Replace {
            id: message.id,
            account: submission.account.clone(),
            short_message: submission.short_message.clone(),
            registered_delivery: submission.registered_delivery,
            scheduled_at_ms: if chance.one_in(3) { now_ms + chance.between(100, 2_000) } else { 0 },
            expires_at_ms: 0,
            message_payload: None,
        }),
        2 if submission.queue_kind() == QueueKind::Number => {
            Op::QueueWake(QueueWake { kind: submission.queue_kind, key: submission.queue_key.clone() })
        }
        _ => return Ok(None),
    };
    Ok(Some(op))
}
