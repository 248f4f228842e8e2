//! Values of a GGUF's metadata.

/// The values of an array, all of one type. GGUF's arrays of arrays are refused, as llama.cpp refuses them.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is named after its type")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is named after its type")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// A whole number that is not negative, of any integer type.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// A number. One of 32 bits becomes the shortest decimal number that it is the nearest one to: 1e-5 and not
    /// 9.99999974737875e-6, since configurations are written in decimals.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => v.to_string().parse().ok(),
            Self::F64(v) => Some(v),
            _ => self.as_u64().map(|v| v as f64),
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// Text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The texts of an array.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Self::Array(Array::String(texts)) => Some(texts),
            _ => None,
        }
    }

    /// The numbers of an array of whole numbers.
    pub fn as_integers(&self) -> Option<Vec<i64>> {
        let Self::Array(array) = self else { return None };
        Some(match array {
            Array::U8(v) => v.iter().map(|&v| v.into()).collect(),
            Array::I8(v) => v.iter().map(|&v| v.into()).collect(),
            Array::U16(v) => v.iter().map(|&v| v.into()).collect(),
            Array::I16(v) => v.iter().map(|&v| v.into()).collect(),
            Array::U32(v) => v.iter().map(|&v| v.into()).collect(),
            Array::I32(v) => v.iter().map(|&v| v.into()).collect(),
            Array::I64(v) => v.clone(),
            Array::U64(v) => v.iter().map(|&v| v.try_into().ok()).collect::<Option<_>>()?,
            _ => return None,
        })
    }

    /// The numbers of an array.
    pub fn as_floats(&self) -> Option<Vec<f32>> {
        match self {
            Self::Array(Array::F32(v)) => Some(v.clone()),
            Self::Array(Array::F64(v)) => Some(v.iter().map(|&v| v as f32).collect()),
            _ => Some(self.as_integers()?.into_iter().map(|v| v as f32).collect()),
        }
    }

    /// The name of its type, as the format calls it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::U8(_) => "uint8",
            Self::I8(_) => "int8",
            Self::U16(_) => "uint16",
            Self::I16(_) => "int16",
            Self::U32(_) => "uint32",
            Self::I32(_) => "int32",
            Self::F32(_) => "float32",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::U64(_) => "uint64",
            Self::I64(_) => "int64",
            Self::F64(_) => "float64",
        }
    }
}
