//! Who may call what: the peer's certificate decides, before any service sees the request.

use tonic::service::Interceptor;
use tonic::transport::CertificateDer;
use tonic::{Request, Status};

use crate::consensus::tls::{Holder, Security};

/// The caller of an RPC, left in the request's extensions by [`Gate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The holder of a certificate of this cluster.
    Certified(Holder),
    /// Someone on this host, when the cluster runs without TLS.
    Loopback,
}

impl Caller {
    /// The caller of a request that passed a [`Gate`].
    ///
    /// # Errors
    /// UNAUTHENTICATED when it did not: the service was mounted without one.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| Status::unauthenticated("the caller was not authenticated"))
    }

    /// Whether this caller may speak in the name of that node.
    pub fn speaks_for(&self, node_id: u64) -> bool {
        match self {
            Caller::Certified(holder) => *holder == Holder::Node(node_id),
            Caller::Loopback => true,
        }
    }
}

/// The interceptor in front of a service.
#[derive(Clone, Debug)]
pub struct Gate {
    admits: Admits,
    tls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admits {
    Nodes,
    Admins,
}

impl Gate {
    /// Lets the cluster's nodes through.
    pub fn nodes(security: &Security) -> Self {
        Self { admits: Admits::Nodes, tls: security.credentials().is_some() }
    }

    /// Lets operators through, and the cluster's nodes, which pass on what operators asked them.
    pub fn admins(security: &Security) -> Self {
        Self { admits: Admits::Admins, tls: security.credentials().is_some() }
    }

    fn admit(&self, certs: Option<&[CertificateDer<'static>]>) -> Result<Caller, Status> {
        if !self.tls {
            return Ok(Caller::Loopback);
        }
        let holder = certs.and_then(<[_]>::first).and_then(Holder::of).ok_or_else(|| {
            Status::unauthenticated("the certificate names neither a node (node-ID) nor an operator (admin-NAME)")
        })?;
        match (&holder, self.admits) {
            (Holder::Node(_), Admits::Nodes) | (_, Admits::Admins) => Ok(Caller::Certified(holder)),
            (Holder::Admin(_), Admits::Nodes) => {
                Err(Status::permission_denied(format!("{holder} is no node of the cluster")))
            }
        }
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let certs = request.peer_certs();
        let caller = self.admit(certs.as_deref().map(Vec::as_slice))?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tonic::Code;

    use super::*;

    fn cert(names: &[&str]) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        rcgen::generate_simple_self_signed(names).expect("DNS names").cert.der().clone()
    }

    fn certified(holder: Holder) -> Result<Caller, Code> {
        Ok(Caller::Certified(holder))
    }

    #[test]
    fn each_service_admits_its_own_kind() {
        let (nodes, admins) = (Gate { admits: Admits::Nodes, tls: true }, Gate { admits: Admits::Admins, tls: true });
        let kim = || Holder::Admin("kim".to_owned());
        for (names, to_nodes, to_admins) in [
            (vec!["node-7"], certified(Holder::Node(7)), certified(Holder::Node(7))),
            (vec!["node-7", "host.example"], certified(Holder::Node(7)), certified(Holder::Node(7))),
            (vec!["admin-kim"], Err(Code::PermissionDenied), certified(kim())),
            (vec!["host.example"], Err(Code::Unauthenticated), Err(Code::Unauthenticated)),
            (vec!["node-7", "admin-kim"], Err(Code::Unauthenticated), Err(Code::Unauthenticated)),
        ] {
            let certs = [cert(&names)];
            assert_eq!(nodes.admit(Some(&certs)).map_err(|status| status.code()), to_nodes, "{names:?}");
            assert_eq!(admins.admit(Some(&certs)).map_err(|status| status.code()), to_admins, "{names:?}");
        }
        assert_eq!(nodes.admit(None).expect_err("nobody").code(), Code::Unauthenticated);
    }

    #[test]
    fn without_tls_the_host_is_trusted() {
        let security = Security::plaintext((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback");
        let mut gate = Gate::nodes(&security);
        let request = gate.call(Request::new(())).expect("let in");
        assert!(Caller::of(&request).expect("authenticated").speaks_for(3));
        assert_eq!(Caller::of(&Request::new(())).expect_err("no gate").code(), Code::Unauthenticated);
    }
}
