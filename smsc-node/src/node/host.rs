//! What the admin service asks of this node.

use smsc_proto::rpc::raft::PeerStatus;
use smsc_raft::model::{Message, MessageState, Submission};

use super::peer::NodeState;
use crate::admin::AdminHost;
use crate::clock::{Clock as _, SystemClock};
use crate::delivery::{mo, receipt};
use crate::smpp::account::hash_password;

#[tonic::async_trait]
impl AdminHost for NodeState {
    async fn status(&self) -> PeerStatus {
        NodeState::status(self)
    }

    fn warnings(&self) -> Vec<String> {
        self.disk_short().into_iter().collect()
    }

    fn now_ms(&self) -> u64 {
        SystemClock.wall().as_millis()
    }

    async fn handover(&self, to: u64) -> Result<(), String> {
        self.hand_over_to(Some(to)).await.map(drop)
    }

    fn mobile_originated(&self, from: &str, to: &str, text: &str) -> Result<Submission, String> {
        let validity_s = self.directory().settings.validity_default_s;
        mo::submission(&self.table(), from, to, text, self.now_ms(), validity_s).map_err(|error| error.to_string())
    }

    fn receipt(&self, message: &Message, state: MessageState, at_ms: u64) -> Option<Submission> {
        let account = message.submission.as_ref().map_or("", |submission| submission.account.as_str());
        let validity_s = self.directory().settings.receipt_validity_s;
        receipt::submission(message, state, at_ms, 0, self.table().receipt_terms(account, validity_s))
    }

    fn hash_password(&self, password: &str) -> Vec<u8> {
        hash_password(password.as_bytes())
    }
}
