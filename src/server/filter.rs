//! The JSON filters and orders of listings: a subset of MongoDB's, as the official clients document it. No I/O.
//!
//! Operators: `$and $or $nor $not $eq $ne $gt $gte $lt $lte $in $nin $exists $regex`; a bare value means equality. A list
//! matches when one of its elements does.

use std::cmp::Ordering;

use regex::Regex;
use serde_json::{Map, Value};

use super::fault::Fault;

/// How deep a filter may nest.
const MAX_DEPTH: usize = 32;

/// A parsed filter.
#[derive(Debug)]
pub(super) enum Filter {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Field(String, Test),
}

/// What a field has to satisfy.
#[derive(Debug)]
pub(super) enum Test {
    Equals(Value),
    Compares(Value, &'static [Ordering]),
    In(Vec<Value>),
    Exists(bool),
    Matches(Regex),
}

/// How a filter gets at the fields of a thing.
pub(super) type Fields<'f> = &'f dyn Fn(&str) -> Option<Value>;

impl Filter {
    /// Parses the JSON text of a filter. None, an empty text, `{}` and `null` match everything.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Fault> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(Self::All(Vec::new())) };
        let value: Value =
            serde_json::from_str(text).map_err(|error| Fault::invalid(format!("filters are not JSON: {error}")))?;
        match &value {
            Value::Null => Ok(Self::All(Vec::new())),
            value => Self::object(value, MAX_DEPTH),
        }
    }

    fn object(value: &Value, depth: usize) -> Result<Self, Fault> {
        if depth == 0 {
            return Err(Fault::invalid("filters nest too deep"));
        }
        let Value::Object(fields) = value else { return Err(Fault::invalid("a filter is an object")) };
        let mut all = Vec::new();
        for (name, value) in fields {
            all.push(match name.as_str() {
                "$and" => Self::All(Self::list(value, depth)?),
                "$or" => Self::Any(Self::list(value, depth)?),
                "$nor" => Self::Not(Box::new(Self::Any(Self::list(value, depth)?))),
                "$not" => Self::Not(Box::new(Self::object(value, depth - 1)?)),
                unknown if unknown.starts_with('$') => {
                    return Err(Fault::invalid(format!("filter operator `{unknown}` is not known")));
                }
                field => Self::field(field, value, depth)?,
            });
        }
        Ok(Self::All(all))
    }

    fn list(value: &Value, depth: usize) -> Result<Vec<Self>, Fault> {
        let Value::Array(items) = value else { return Err(Fault::invalid("$and, $or and $nor take a list")) };
        items.iter().map(|item| Self::object(item, depth - 1)).collect()
    }

    fn field(name: &str, value: &Value, depth: usize) -> Result<Self, Fault> {
        match value {
            Value::Object(operators) if operators.keys().any(|key| key.starts_with('$')) => {
                Self::operators(name, operators, depth)
            }
            value => Ok(Self::Field(name.to_owned(), Test::Equals(value.clone()))),
        }
    }

    fn operators(name: &str, operators: &Map<String, Value>, depth: usize) -> Result<Self, Fault> {
        if depth == 0 {
            return Err(Fault::invalid("filters nest too deep"));
        }
        let mut all = Vec::new();
        for (operator, value) in operators {
            let field = |test| Self::Field(name.to_owned(), test);
            let compares = |orders: &'static [Ordering]| field(Test::Compares(value.clone(), orders));
            let values = || value.as_array().cloned().ok_or_else(|| Fault::invalid("$in and $nin take a list"));
            all.push(match operator.as_str() {
                "$eq" => field(Test::Equals(value.clone())),
                "$ne" => Self::Not(Box::new(field(Test::Equals(value.clone())))),
                "$gt" => compares(&[Ordering::Greater]),
                "$gte" => compares(&[Ordering::Greater, Ordering::Equal]),
                "$lt" => compares(&[Ordering::Less]),
                "$lte" => compares(&[Ordering::Less, Ordering::Equal]),
                "$in" => field(Test::In(values()?)),
                "$nin" => Self::Not(Box::new(field(Test::In(values()?)))),
                "$exists" => field(Test::Exists(value.as_bool().unwrap_or(true))),
                "$regex" => {
                    let pattern = value.as_str().ok_or_else(|| Fault::invalid("$regex takes a text"))?;
                    let regex = Regex::new(pattern)
                        .map_err(|error| Fault::invalid(format!("`{pattern}` is not a regular expression: {error}")))?;
                    field(Test::Matches(regex))
                }
                "$not" => Self::Not(Box::new(Self::field(name, value, depth - 1)?)),
                unknown => return Err(Fault::invalid(format!("filter operator `{unknown}` is not known"))),
            });
        }
        Ok(Self::All(all))
    }

    /// Whether a thing with these fields passes.
    pub(super) fn matches(&self, fields: Fields<'_>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|filter| filter.matches(fields)),
            Self::Any(any) => any.iter().any(|filter| filter.matches(fields)),
            Self::Not(filter) => !filter.matches(fields),
            Self::Field(name, test) => test.passes(fields(name)),
        }
    }
}

impl Test {
    fn passes(&self, value: Option<Value>) -> bool {
        if let Self::Exists(wanted) = self {
            return *wanted == value.is_some_and(|value| !value.is_null());
        }
        let value = value.unwrap_or(Value::Null);
        match (&value, self) {
            // Equality with a list means the whole list.
            (Value::Array(_), Self::Equals(Value::Array(_))) => self.passes_one(&value),
            (Value::Array(items), _) => items.iter().any(|item| self.passes_one(item)),
            _ => self.passes_one(&value),
        }
    }

    fn passes_one(&self, value: &Value) -> bool {
        match self {
            Self::Equals(wanted) => equal(value, wanted),
            Self::In(wanted) => wanted.iter().any(|wanted| equal(value, wanted)),
            Self::Compares(bound, orders) => compare(value, bound).is_some_and(|order| orders.contains(&order)),
            Self::Matches(regex) => value.as_str().is_some_and(|text| regex.is_match(text)),
            // Answered before.
            Self::Exists(_) => false,
        }
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    left == right || compare(left, right) == Some(Ordering::Equal)
}

/// The order of two values of one kind; numbers of any spelling are one kind, others have none.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// The value at a path of keys joined by dots. A key that itself holds dots is found whole first.
pub(super) fn lookup<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let object = value.as_object()?;
    if let Some(found) = object.get(path) {
        return Some(found);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let (head, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
        lookup(object.get(head)?, rest)
    })
}

/// How a listing is sorted: `+field`, `-field`, or `field`, which means `+field`.
#[derive(Debug)]
pub(super) struct Order {
    field: Option<String>,
    descending: bool,
}

impl Order {
    /// Parses an order. None and an empty text keep the listing as it is. Of several, separated by commas, the first counts.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Fault> {
        let text = text.and_then(|text| text.split(',').next()).unwrap_or_default().trim();
        let (descending, field) = match text.strip_prefix('-') {
            Some(field) => (true, field),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if !field.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ')) {
            return Err(Fault::invalid(format!("`{text}` is not an order")));
        }
        Ok(Self { field: Some(field.to_owned()).filter(|field| !field.is_empty()), descending })
    }

    /// Sorts things by the field; those without it come last, those equal keep their order.
    pub(super) fn sort<T>(&self, things: &mut Vec<T>, value: impl Fn(&T, &str) -> Option<Value>) {
        let Some(field) = &self.field else { return };
        let mut keyed: Vec<(Option<Value>, T)> =
            std::mem::take(things).into_iter().map(|thing| (value(&thing, field), thing)).collect();
        keyed.sort_by(|(left, _), (right, _)| match (left, right) {
            (Some(left), Some(right)) => {
                let order = compare(left, right).unwrap_or(Ordering::Equal);
                if self.descending { order.reverse() } else { order }
            }
            (left, right) => right.is_some().cmp(&left.is_some()),
        });
        *things = keyed.into_iter().map(|(_, thing)| thing).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn passes(filter: &Value, thing: &Value) -> bool {
        let filter = Filter::parse(Some(&filter.to_string())).unwrap();
        filter.matches(&|field| lookup(thing, field).cloned())
    }

    #[test]
    fn operators_mean_what_mongodb_says() {
        let run = json!({"state": "finished", "loss": 0.25, "tags": ["a", "b"], "config": {"lr": {"value": 1}}, "none": null});
        for yes in [
            json!({}),
            json!({"state": "finished"}),
            json!({"loss": {"$lt": 0.3, "$gte": 0.25}}),
            json!({"config.lr.value": 1.0}),
            json!({"tags": "b"}),
            json!({"tags": {"$in": ["c", "a"]}}),
            json!({"tags": ["a", "b"]}),
            json!({"$or": [{"state": "running"}, {"loss": {"$gt": 0}}]}),
            json!({"$nor": [{"state": "running"}]}),
            json!({"missing": {"$exists": false}}),
            json!({"none": {"$exists": false}}),
            json!({"missing": {"$ne": 3}}),
            json!({"state": {"$regex": "^fin"}}),
            json!({"state": {"$not": {"$regex": "^run"}}}),
            json!({"missing": null}),
        ] {
            assert!(passes(&yes, &run), "{yes}");
        }
        for no in [
            json!({"state": "running"}),
            json!({"loss": {"$gt": "0"}}),
            json!({"tags": "c"}),
            json!({"$and": [{"state": "finished"}, {"loss": 1}]}),
            json!({"missing": {"$exists": true}}),
            json!({"state": {"$nin": ["finished"]}}),
        ] {
            assert!(!passes(&no, &run), "{no}");
        }
        for bad in
            ["[]", "{", "{\"$where\": \"1\"}", "{\"a\": {\"$regex\": \"(\"}}", "{\"$or\": 1}", "{\"a\":{\"$in\":1}}"]
        {
            assert!(Filter::parse(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn deep_filters_are_refused_and_orders_sort() {
        let deep = format!("{}{{}}{}", "{\"$not\":".repeat(100), "}".repeat(100));
        assert!(Filter::parse(Some(&deep)).is_err());
        let mut things = vec![json!({"x": 2}), json!({}), json!({"x": 1}), json!({"x": 3})];
        let value = |thing: &Value, field: &str| lookup(thing, field).cloned();
        Order::parse(Some("-x")).unwrap().sort(&mut things, value);
        assert_eq!(things, [json!({"x": 3}), json!({"x": 2}), json!({"x": 1}), json!({})]);
        Order::parse(Some("x")).unwrap().sort(&mut things, value);
        assert_eq!(things, [json!({"x": 1}), json!({"x": 2}), json!({"x": 3}), json!({})]);
        assert!(Order::parse(Some("+a;b")).is_err());
    }
}
