//! The id of a flow, for callers who do not know it by its name: Langflow's clients.
//!
//! It is the id in the export. A document without one, or with something else in its place, gets one made of tenant
//! and name: the same for all versions, on every dispatcher.

use flowfleet_core::{FlowId, FlowName, Tenant};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// The id of a flow whose export says `exported`.
pub(crate) fn flow_id(tenant: &Tenant, name: &FlowName, exported: Option<&str>) -> FlowId {
    let exported = exported.and_then(|text| Uuid::try_parse(text).ok());
    FlowId(exported.unwrap_or_else(|| {
        let mut hash = Sha256::new();
        hash.update(b"flowfleet flow\0");
        hash.update(tenant.as_str());
        hash.update([0]);
        hash.update(name.as_str());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        Builder::from_random_bytes(bytes).into_uuid()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exports_id_or_one_that_stays() {
        let (tenant, name): (Tenant, FlowName) = ("t".parse().unwrap(), "n".parse().unwrap());
        let exported = "0f1ee700-0000-4000-8000-000000000002";
        assert_eq!(flow_id(&tenant, &name, Some(exported)).to_string(), exported);
        let made = flow_id(&tenant, &name, None);
        assert_eq!(made, flow_id(&tenant, &name, Some("my flow")));
        assert_eq!(made.0.get_version_num(), 4);
        assert_ne!(made, flow_id(&"u".parse().unwrap(), &name, None));
        assert_ne!(made, flow_id(&tenant, &"m".parse().unwrap(), None));
    }
}
