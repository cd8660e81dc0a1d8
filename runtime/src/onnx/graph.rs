//! A graph under construction: nodes are appended in the order in which they are computed, and every value has a name.

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, NodeProto, ShapeProto, Size, TensorProto, TensorTypeProto, TypeProto,
    ValueInfoProto, attribute, element,
};

/// Name of the dimension that counts rows.
const ROWS: &str = "rows";
/// Operators of machine learning.
pub const ML: &str = "ai.onnx.ml";

/// A value of the graph, by its name.
pub type Name = String;

/// A graph under construction.
#[derive(Debug, Default)]
pub struct Graph {
    proto: GraphProto,
}

impl Graph {
    /// The graph as a message.
    pub fn finish(mut self, name: &str) -> GraphProto {
        self.proto.name = name.to_owned();
        self.proto
    }

    /// A value that goes in: `columns` numbers a row.
    pub fn input(&mut self, name: &str, elements: i32, columns: usize, doc: &str) -> Name {
        self.proto.input.push(value(name, elements, Some(columns), doc));
        name.to_owned()
    }

    /// Lets a value come out under its name; without `columns` it is one number a row, in one dimension.
    pub fn output(&mut self, name: &str, elements: i32, columns: Option<usize>, doc: &str) {
        self.proto.output.push(value(name, elements, columns, doc));
    }

    /// A node with one output, which is called `name`.
    pub fn node(&mut self, op: &str, inputs: &[&Name], attributes: Vec<AttributeProto>, name: &str) -> Name {
        self.push(op, "", inputs, attributes, name)
    }

    /// A node of `ai.onnx.ml`.
    pub fn ml_node(&mut self, op: &str, inputs: &[&Name], attributes: Vec<AttributeProto>, name: &str) -> Name {
        self.push(op, ML, inputs, attributes, name)
    }

    fn push(&mut self, op: &str, domain: &str, inputs: &[&Name], attribute: Vec<AttributeProto>, name: &str) -> Name {
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).clone()).collect(),
            output: vec![name.to_owned()],
            name: format!("{name}_node"),
            op_type: op.to_owned(),
            attribute,
            domain: domain.to_owned(),
        });
        name.to_owned()
    }

    fn constant(&mut self, name: &str, tensor: TensorProto) -> Name {
        self.proto.initializer.push(TensorProto { name: name.to_owned(), ..tensor });
        name.to_owned()
    }

    /// Numbers of the given element type, f32 or f64.
    pub fn numbers(&mut self, name: &str, elements: i32, dims: &[usize], values: &[f64]) -> Name {
        let mut tensor = TensorProto { dims: dims_of(dims), data_type: elements, ..TensorProto::default() };
        match elements {
            element::DOUBLE => tensor.double_data = values.to_vec(),
            _ => tensor.float_data = values.iter().map(|&x| x as f32).collect(),
        }
        self.constant(name, tensor)
    }

    /// Whole numbers.
    pub fn integers(&mut self, name: &str, dims: &[usize], values: Vec<i64>) -> Name {
        let tensor = TensorProto { dims: dims_of(dims), data_type: element::INT64, int64_data: values, ..TensorProto::default() };
        self.constant(name, tensor)
    }

    /// Texts.
    pub fn texts(&mut self, name: &str, values: &[String]) -> Name {
        let string_data = values.iter().map(|text| text.clone().into_bytes()).collect();
        let tensor =
            TensorProto { dims: dims_of(&[values.len()]), data_type: element::STRING, string_data, ..TensorProto::default() };
        self.constant(name, tensor)
    }

    /// The code of column `column` of `features` as an index from 0 to `slots`: what is missing, or no code, is `slots`.
    pub fn code(&mut self, features: &Name, elements: i32, column: usize, slots: usize) -> Name {
        let at = self.integers(&format!("column_{column}"), &[1], vec![column as i64]);
        let raw = self.node("Gather", &[features, &at], vec![int("axis", 1)], &format!("raw_{column}"));
        let zero = self.numbers(&format!("zero_{column}"), elements, &[1], &[0.0]);
        let end = self.numbers(&format!("end_{column}"), elements, &[1], &[slots as f64]);
        let from = self.node("GreaterOrEqual", &[&raw, &zero], Vec::new(), &format!("from_{column}"));
        let below = self.node("Less", &[&raw, &end], Vec::new(), &format!("below_{column}"));
        let known = self.node("And", &[&from, &below], Vec::new(), &format!("known_{column}"));
        let code = self.node("Where", &[&known, &raw, &end], Vec::new(), &format!("code_{column}"));
        self.node("Cast", &[&code], vec![int("to", i64::from(element::INT64))], &format!("index_{column}"))
    }
}

fn dims_of(dims: &[usize]) -> Vec<i64> {
    dims.iter().map(|&d| d as i64).collect()
}

fn value(name: &str, elements: i32, columns: Option<usize>, doc: &str) -> ValueInfoProto {
    let rows = DimensionProto { size: Some(Size::Name(ROWS.to_owned())) };
    let columns = columns.map(|c| DimensionProto { size: Some(Size::Value(c as i64)) });
    let shape = ShapeProto { dim: std::iter::once(rows).chain(columns).collect() };
    let tensor = TensorTypeProto { elem_type: elements, shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor) }), doc_string: doc.to_owned() }
}

/// An attribute that is a whole number.
pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(i), r#type: attribute::INT, ..AttributeProto::default() }
}

/// An attribute that is text.
pub fn text(name: &str, s: &str) -> AttributeProto {
    let s = Some(s.as_bytes().to_vec());
    AttributeProto { name: name.to_owned(), s, r#type: attribute::STRING, ..AttributeProto::default() }
}

/// An attribute of whole numbers.
pub fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints, r#type: attribute::INTS, ..AttributeProto::default() }
}

/// An attribute of numbers.
pub fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { name: name.to_owned(), floats, r#type: attribute::FLOATS, ..AttributeProto::default() }
}

/// An attribute of texts.
pub fn texts(name: &str, texts: Vec<&str>) -> AttributeProto {
    let strings = texts.into_iter().map(|t| t.as_bytes().to_vec()).collect();
    AttributeProto { name: name.to_owned(), strings, r#type: attribute::STRINGS, ..AttributeProto::default() }
}
