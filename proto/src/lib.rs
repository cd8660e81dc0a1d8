//! The wire: generated types and the only conversions between them and the domain. No logic.

pub mod convert;

/// Generated from `sheaf/v1/*.proto`.
#[expect(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("sheaf.v1");
}

/// Paths of all methods of all services (`/sheaf.v1.JobService/SubmitJob`), from the descriptors.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// Largest message that either side sends or accepts.
pub const MAX_MESSAGE_BYTES: usize = 128 << 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::v1::{BlockValue, PushBlocksRequest};
    use prost::Message as _;
    use prost::bytes::Bytes;

    #[test]
    fn a_partial_stays_where_it_was_received() {
        let block = BlockValue { present: true, value: Bytes::from(vec![7; 1 << 20]), ..BlockValue::default() };
        let sent = PushBlocksRequest { blocks: vec![block.clone(), block], ..PushBlocksRequest::default() };
        let received = Bytes::from(sent.encode_to_vec());
        let place = received.as_ptr_range();
        let decoded = PushBlocksRequest::decode(received).unwrap();
        assert_eq!(decoded, sent);
        assert!(decoded.blocks.iter().all(|block| place.contains(&block.value.as_ptr())));
    }
}
