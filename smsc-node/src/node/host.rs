//! What the admin service asks of this node.

use smol_str::SmolStr;
use smsc_proto::rpc::admin::{LastTakeoverResponse, RouteTestRequest, RouteTestResponse, route_test_response};
use smsc_proto::rpc::raft::PeerStatus;
use smsc_proto::text::Alphabet;
use smsc_proto::types::Npi;
use smsc_raft::model::{Address, Message, MessageState, Submission};

use super::peer::NodeState;
use crate::admin::AdminHost;
use crate::clock::{Clock as _, SystemClock};
use crate::delivery::route::{Query, Text};
use crate::delivery::{mo, receipt};
use crate::link::board::LinkBoardRow;
use crate::smpp::account::hash_password;

#[tonic::async_trait]
impl AdminHost for NodeState {
    async fn status(&self) -> PeerStatus {
        NodeState::status(self)
    }

    fn warnings(&self) -> Vec<String> {
        let links = self.metrics.links.rows().into_iter().filter(|row| row.bound() < row.binds.len());
        let links = links.map(|row| {
            let reason = row.binds.iter().find(|bind| !bind.error.is_empty()).map_or("connecting", |bind| &bind.error);
            format!("link {}: {} of {} binds are bound ({reason})", row.name, row.bound(), row.binds.len())
        });
        self.disk_short().into_iter().chain(self.disk_stalled()).chain(self.cdr.warning()).chain(links).collect()
    }

    fn last_takeover(&self) -> LastTakeoverResponse {
        self.takeovers.last(&self.metrics.firsts)
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

    fn explain_route(&self, request: &RouteTestRequest) -> RouteTestResponse {
        let alphabet = Alphabet::narrowest(&request.text);
        let octets = alphabet.encode(&request.text).unwrap_or_default();
        let explanation = self.table().explain(&Query {
            account: &request.account,
            source: &request.source,
            destination: &Address { ton: request.ton, npi: u32::from(Npi::ISDN.0), digits: request.number.clone() },
            service_type: &request.service_type,
            text: Text { data_coding: u32::from(alphabet.data_coding()), esm_class: 0, octets: &octets },
            now_ms: if request.at_ms == 0 { self.now_ms() } else { request.at_ms },
        });
        let way = |(link, destination): (SmolStr, Address)| route_test_response::Way {
            link: link.to_string(),
            destination: Some(destination),
        };
        let answer = RouteTestResponse {
            number: explanation.number,
            steps: explanation.steps,
            ways: explanation.links.into_iter().map(way).collect(),
            ..Default::default()
        };
        match explanation.decision {
            Ok(routed) => RouteTestResponse { kind: routed.kind as i32, key: routed.key, ..answer },
            Err(refusal) => RouteTestResponse { refused: refusal.to_string(), ..answer },
        }
    }

    fn receipt(&self, message: &Message, state: MessageState, at_ms: u64) -> Option<Submission> {
        let account = message.submission.as_ref().map_or("", |submission| submission.account.as_str());
        let validity_s = self.directory().settings.receipt_validity_s;
        receipt::submission(message, state, at_ms, 0, self.table().receipt_terms(account, validity_s))
    }

    fn links(&self) -> Vec<LinkBoardRow> {
        self.metrics.links.rows()
    }

    fn hash_password(&self, password: &str) -> Vec<u8> {
        hash_password(password.as_bytes())
    }
}
