//! Conversions for `common.proto`.

use sheaf_cluster::coverage::Block;
use sheaf_cluster::id::{Generation, JobId, Stage, Term, Token};

use crate::v1;

/// A message lacked a field that it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message lacks `{0}`")]
pub struct Missing(pub &'static str);

impl From<Missing> for tonic::Status {
    fn from(missing: Missing) -> Self {
        tonic::Status::invalid_argument(missing.to_string())
    }
}

impl From<&Stage> for v1::Stage {
    fn from(stage: &Stage) -> Self {
        v1::Stage { job: stage.job.0.clone(), number: stage.number }
    }
}

impl TryFrom<Option<v1::Stage>> for StageOf {
    type Error = Missing;

    fn try_from(stage: Option<v1::Stage>) -> Result<Self, Missing> {
        let stage = stage.ok_or(Missing("stage"))?;
        Ok(StageOf(Stage { job: JobId(stage.job), number: stage.number }))
    }
}

/// A stage read from the wire (a wrapper, since neither side of the conversion is ours here).
pub struct StageOf(pub Stage);

/// A token read from the wire.
pub struct TokenOf(pub Token);

/// A block read from the wire.
pub struct BlockOf(pub Block);

impl From<Token> for v1::Token {
    fn from(token: Token) -> Self {
        v1::Token { term: token.term.0, generation: token.generation.0 }
    }
}

impl TryFrom<Option<v1::Token>> for TokenOf {
    type Error = Missing;

    fn try_from(token: Option<v1::Token>) -> Result<Self, Missing> {
        let token = token.ok_or(Missing("token"))?;
        Ok(TokenOf(Token { term: Term(token.term), generation: Generation(token.generation) }))
    }
}

impl From<Block> for v1::Block {
    fn from(block: Block) -> Self {
        v1::Block { level: block.level, index: block.index }
    }
}

impl TryFrom<Option<v1::Block>> for BlockOf {
    type Error = Missing;

    fn try_from(block: Option<v1::Block>) -> Result<Self, Missing> {
        let block = block.ok_or(Missing("block"))?;
        Ok(BlockOf(Block { level: block.level, index: block.index }))
    }
}
