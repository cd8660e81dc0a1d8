//! `search-ranking`: queries to a shop's search, each with the 5 to 60 documents that were found and a grade from 0 (not
//! what was meant) to 4 (exactly that). The grade follows a document's [`Document::utility`] for its query: how well the
//! words match, how much it is liked, how fresh it is where that matters, what it costs beside the others. Some columns are
//! noise, some are missing, and match scores are on a scale of their own in each query.
//!
//! Every value is a function of (seed, query, document).

mod columns;

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use sheaf_learn::math;

use super::Table;
use super::draw::{Draws, Keys, below, exponential, hundredths, normal, pick, poisson, whole};

/// The tables.
pub const TABLES: &[&str] = &["results"];

/// The dataset of `rows` queries under `seed`.
pub fn tables(rows: u64, seed: u64) -> Vec<Box<dyn Table>> {
    vec![Box::new(Results { queries: rows, search: Search::new(seed) })]
}

/// What a query is about, with the share of queries and how much freshness and price count there.
pub const TOPICS: [Topic; 6] = [
    Topic { name: "electronics", share: 0.28, fresh: 0.5, price: 0.6 },
    Topic { name: "clothing", share: 0.24, fresh: 0.3, price: 0.4 },
    Topic { name: "home", share: 0.18, fresh: 0.0, price: 0.5 },
    Topic { name: "books", share: 0.12, fresh: 0.2, price: 0.1 },
    Topic { name: "news", share: 0.10, fresh: 1.2, price: 0.0 },
    Topic { name: "services", share: 0.08, fresh: 0.1, price: 0.3 },
];

/// A topic of queries.
pub struct Topic {
    /// Its name.
    pub name: &'static str,
    /// Share of the queries.
    pub share: f64,
    /// What freshness counts.
    pub fresh: f64,
    /// What a low price counts.
    pub price: f64,
}

/// Fewest and most documents of a query.
pub const DOCUMENTS: Range<u64> = 5..61;
/// Utilities from which a grade is 1, 2, 3, 4.
const GRADES: [f64; 4] = [0.35, 1.15, 1.95, 2.75];

/// A query.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    index: u64,
    /// Position in [`TOPICS`].
    pub topic: usize,
    /// Number of documents that were found.
    pub documents: u64,
    words: u32,
    /// Times a month that it is asked.
    volume: f64,
    /// What match scores of the query are multiplied with.
    scale: f64,
    /// Of the documents that were found.
    usual_price: f64,
}

/// A document that was found for a query.
#[derive(Debug, Clone, Copy)]
pub struct Document {
    query: Query,
    number: u64,
    title: f64,
    body: f64,
    anchors: f64,
    same_topic: bool,
    /// What people think of it, in standard deviations.
    liked: f64,
    age_days: f64,
    price: f64,
    noise: f64,
}

impl Query {
    /// From 1 on.
    pub fn id(&self) -> i64 {
        self.index as i64 + 1
    }
}

impl Document {
    /// How well it answers the query; what columns show of it is noisy.
    pub fn utility(&self) -> f64 {
        let topic = &TOPICS[self.query.topic];
        let fresh = math::exp(-self.age_days / 60.0) - 0.4;
        let cheap = math::ln(self.query.usual_price / self.price);
        let matched = 2.2 * self.title + 1.1 * self.body + 0.5 * self.anchors + 1.2 * self.title * self.body - 2.1;
        let topical = if self.same_topic { 0.4 } else { -0.9 };
        matched + topical + 0.45 * self.liked + topic.fresh * fresh + topic.price * cheap + self.noise
    }

    /// 0 to 4.
    pub fn grade(&self) -> i32 {
        let utility = self.utility();
        GRADES.iter().filter(|least| utility >= **least).count() as i32
    }
}

/// Streams of queries and documents.
pub struct Search {
    queries: Keys<3>,
    documents: Keys<4>,
    seen: Keys<8>,
}

impl Search {
    /// Under a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            queries: Keys::new(seed, "search-ranking queries"),
            documents: Keys::new(seed, "search-ranking documents"),
            seen: Keys::new(seed, "search-ranking what is seen"),
        }
    }

    /// A query by its number from 0.
    pub fn query(&self, index: u64) -> Query {
        let draws = self.queries.at(index);
        let ((topic, documents), (words, volume), (scale, price)) = (draws.pair(0), draws.pair(1), draws.pair(2));
        Query {
            index,
            topic: pick(TOPICS.iter().map(|t| t.share), 1.0, topic),
            documents: DOCUMENTS.start + below(DOCUMENTS.end - DOCUMENTS.start, documents),
            words: 1 + poisson(1.8, words).min(8),
            volume: whole(math::exp(4.0 + 1.8 * normal(volume))),
            scale: math::exp(2.0 + 0.5 * normal(scale)),
            usual_price: math::exp(3.5 + 1.1 * normal(price)),
        }
    }

    /// The documents of a query.
    pub fn documents(&self, query: Query) -> impl Iterator<Item = Document> + '_ {
        (0..query.documents).map(move |number| self.document(query, number))
    }

    fn document(&self, query: Query, number: u64) -> Document {
        let draws = self.documents.at(counter(query, number));
        let ((title, body), (anchors, topic), (liked, age), (price, noise)) =
            (draws.pair(0), draws.pair(1), draws.pair(2), draws.pair(3));
        // Words in the title are often in the body as well.
        let title = title * title;
        Document {
            query,
            number,
            title,
            body: 0.5 * title + 0.5 * body,
            anchors: anchors * anchors,
            same_topic: topic < 0.8,
            liked: normal(liked),
            age_days: exponential(120.0, age),
            price: query.usual_price * math::exp(0.5 * normal(price)),
            noise: 0.45 * normal(noise),
        }
    }

    fn seen(&self, document: &Document) -> Draws<'_> {
        self.seen.at(counter(document.query, document.number))
    }

    /// What the columns show of a document.
    pub fn result(&self, document: &Document) -> Shown {
        let (draws, query) = (self.seen(document), &document.query);
        let ((a, b), (c, d), (e, f)) = (draws.pair(0), draws.pair(1), draws.pair(2));
        let ((g, h), (i, j), (k, l)) = (draws.pair(3), draws.pair(4), draws.pair(5));
        let ((m, n), (o, p)) = (draws.pair(6), draws.pair(7));
        let clicks = whole(math::exp(2.0 + 0.9 * document.liked + 0.3 * math::ln(1.0 + query.volume) + 0.6 * normal(c)));
        let reviews = f64::from(poisson(6.0 + 4.0 * math::exp(0.3 * document.liked), e));
        let rating = (3.7 + 0.6 * document.liked + 0.4 * normal(f)).clamp(1.0, 5.0);
        Shown {
            id: counter(*query, document.number) as i64 + 1,
            query: query.id(),
            grade: document.grade(),
            topic: TOPICS[query.topic].name,
            words: query.words as i32,
            volume: query.volume,
            title_match: hundredths((document.title + 0.06 * normal(a)).clamp(0.0, 1.0)),
            body_match: hundredths(query.scale * (document.body + 0.07 * normal(b)).max(0.0)),
            anchor_match: hundredths(query.scale * (document.anchors + 0.1 * normal(g)).max(0.0)),
            exact_phrase: document.title > 0.8 && d < 0.7,
            same_topic: document.same_topic != (h < 0.05),
            clicks,
            click_rate: (i > 0.15).then(|| hundredths(100.0 * math::sigmoid(0.7 * document.liked + 0.5 * normal(j) - 3.0))),
            rating: (reviews >= 4.0).then(|| hundredths(rating)),
            reviews: reviews as i32,
            age_days: (k > 0.06).then(|| whole(document.age_days)),
            price: hundredths(document.price),
            inlinks: whole(exponential(30.0, l)),
            spam_score: hundredths(m * m * m),
            load_ms: whole(80.0 + exponential(200.0, n)),
            length: whole(math::exp(6.0 + 0.8 * normal(o))),
            shelf: below(50, p) as i32,
        }
    }
}

/// A document's number among all: 64 are set aside for a query.
fn counter(query: Query, number: u64) -> u64 {
    query.index * 64 + number
}

/// A row: what is shown of a document and its query.
pub struct Shown {
    id: i64,
    query: i64,
    grade: i32,
    topic: &'static str,
    words: i32,
    volume: f64,
    title_match: f64,
    body_match: f64,
    anchor_match: f64,
    exact_phrase: bool,
    same_topic: bool,
    clicks: f64,
    click_rate: Option<f64>,
    rating: Option<f64>,
    reviews: i32,
    age_days: Option<f64>,
    price: f64,
    inlinks: f64,
    spam_score: f64,
    load_ms: f64,
    length: f64,
    shelf: i32,
}

/// The only table; a unit is a query.
struct Results {
    queries: u64,
    search: Search,
}

impl Table for Results {
    fn name(&self) -> &'static str {
        TABLES[0]
    }

    fn schema(&self) -> SchemaRef {
        columns::schema()
    }

    fn units(&self) -> u64 {
        self.queries
    }

    fn noun(&self) -> &'static str {
        "queries"
    }

    fn rows_per_unit(&self) -> u64 {
        33
    }

    fn batch(&self, units: Range<u64>) -> anyhow::Result<RecordBatch> {
        let documents = units.flat_map(|index| self.search.documents(self.search.query(index)));
        columns::batch(&documents.map(|document| self.search.result(&document)).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_grades_are_as_stated() {
        let search = Search::new(7);
        let queries: Vec<Query> = (0..3_000).map(|index| search.query(index)).collect();
        assert!(queries.iter().all(|q| DOCUMENTS.contains(&q.documents) && (1..=9).contains(&q.words)));
        let documents: Vec<Document> = queries.iter().flat_map(|q| search.documents(*q)).collect();
        let mean = documents.len() as f64 / queries.len() as f64;
        assert!((31.0..34.0).contains(&mean), "{mean} documents a query");
        let share = |grade: i32| documents.iter().filter(|d| d.grade() == grade).count() as f64 / documents.len() as f64;
        let shares: Vec<f64> = (0..5).map(share).collect();
        assert!(shares[0] > 0.4 && shares[0] < 0.75 && shares.windows(2).all(|s| s[0] > s[1]) && shares[4] > 0.01, "{shares:?}");
        let searched = |q: &Query| search.documents(*q).any(|d| d.grade() > 0);
        let found = queries.iter().filter(|q| searched(q)).count() as f64 / queries.len() as f64;
        assert!(found > 0.97 && found < 1.0, "{found} of the queries have something relevant");
    }

    #[test]
    fn rows_are_functions_of_seed_and_query() {
        let rows = |seed: u64, units: Range<u64>| tables(100, seed)[0].batch(units).expect("a batch");
        let all = rows(3, 0..50);
        assert_eq!(all.slice(all.num_rows() - rows(3, 40..50).num_rows(), rows(3, 40..50).num_rows()), rows(3, 40..50));
        assert_ne!(rows(4, 0..50), all);
    }
}
