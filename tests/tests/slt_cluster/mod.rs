//! The files of `slt/` on a coordinator with two workers, asked over the wire as `sheaf sql` asks: one connection for
//! all statements.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use sheaf_client::connect::connect_to_ask;
use sheaf_client::embedded::QueryClient;
use sheaf_dataflow::job::{JobError, Table};
use sheaf_dataflow::query::wire::Decoder;
use sheaf_proto::v1::{self, RunQueryRequest, run_query_response::Part};
use sheaf_tests::Cluster;

use super::slt_data::{Layout, write_tables};
use super::{Engine, NOW_NS, VIEWS, params};

/// How a cluster is asked; none of it may change an answer.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    pub name: &'static str,
    /// Partitions of exchanges.
    pub partitions: u32,
    pub layout: Layout,
}

/// A running cluster, and what all questions to it have in common.
pub struct Distributed {
    runtime: tokio::runtime::Runtime,
    client: QueryClient,
    common: RunQueryRequest,
}

impl Distributed {
    /// Writes the tables where the cluster may read them, and connects.
    pub fn new(cluster: &Cluster, asking: Asking) -> Self {
        let folder = cluster.folder().join("data").join(format!("{:?}", asking.layout));
        std::fs::create_dir(&folder).unwrap();
        let names = write_tables(&folder, asking.layout).into_iter().map(|(name, _)| name);
        let tables = names.map(|name| Table::at(name, files(&folder, name)));
        let tables: Vec<Table> = tables.chain(VIEWS.map(|(name, sql)| Table::view(name, sql))).collect();
        let params: std::collections::BTreeMap<_, _> = params().into_iter().collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(connect_to_ask(&cluster.place())).unwrap();
        let common = RunQueryRequest {
            tables: serde_json::to_string(&tables).unwrap(),
            params: serde_json::to_string(&params).unwrap(),
            partitions: asking.partitions,
            now_ns: Some(NOW_NS),
            ..RunQueryRequest::default()
        };
        Self { runtime, client, common }
    }

    async fn ask(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
        let request = RunQueryRequest { sql: sql.to_owned(), ..self.common.clone() };
        let said = |status: tonic::Status| status.message().to_owned();
        let mut parts = self.client.clone().run_query(request).await.map_err(said)?.into_inner();
        let (mut decoder, mut batches) = (Decoder::default(), Vec::new());
        while let Some(part) = parts.message().await.map_err(said)? {
            match part.part {
                Some(Part::Rows(piece)) => batches.extend(decoder.decode(piece).map_err(|e| e.to_string())?),
                Some(Part::End(end)) => {
                    return match end.error {
                        Some(error) => Err(text_of(error)),
                        None => Ok((decoder.schema().expect("an answer has columns"), batches)),
                    };
                }
                Some(Part::Progress(_) | Part::Plan(_)) | None => {}
            }
        }
        Err("the answer has no end".to_owned())
    }
}

/// A refusal as people read it.
fn text_of(error: v1::JobError) -> String {
    let v1::JobError { path, message, hint } = error;
    JobError { path, message, hint: Some(hint).filter(|hint| !hint.is_empty()) }.to_string()
}

fn files(folder: &Path, table: &str) -> String {
    folder.join(format!("{table}-*.parquet")).display().to_string()
}

impl Engine for Distributed {
    fn run(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
        // On a thread of its own, because the caller may stand in another runtime.
        std::thread::scope(|threads| threads.spawn(|| self.runtime.block_on(self.ask(sql))).join().unwrap())
    }
}
