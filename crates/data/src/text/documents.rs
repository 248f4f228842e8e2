//! Documents that a causal language model learns from: plain texts, prompts with completions, chats.

use std::fmt;

use serde::Serialize;

use super::rows::{Row, Rows, digest_parts};

/// Who says a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Whoever sets the task.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// What a tool answered.
    Tool,
}

impl Role {
    /// The names that files have for roles: those of `messages`, and ShareGPT's.
    const NAMES: [(&str, Self); 6] = [
        ("system", Self::System),
        ("user", Self::User),
        ("assistant", Self::Assistant),
        ("tool", Self::Tool),
        ("human", Self::User),
        ("gpt", Self::Assistant),
    ];

    /// The role of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find_map(|(known, role)| (known == name).then_some(role))
    }

    /// As chat templates name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// All names, for messages.
    pub(super) fn names() -> String {
        Self::NAMES.map(|(name, _)| format!("`{name}`")).join(", ")
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one side says at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said; of the assistant never nothing.
    pub content: String,
}

/// Messages in turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chat {
    /// All messages.
    pub messages: Vec<Message>,
    /// The first message that belongs to the completion; those before are the prompt, whoever says them. A chat that
    /// was not given as prompt and completion has 0.
    pub completion: usize,
}

/// Which tokens of a document are learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LossOn {
    /// Of a chat what the assistant says, to the token that ends its turn; of a prompt with a completion the completion
    /// and the end of the text; all of a plain text.
    #[default]
    Completions,
    /// All.
    All,
}

impl LossOn {
    /// Whether it is what is learnt unless given.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Document {
    /// A text to be continued from its beginning to its end.
    Text(String),
    /// A completion that follows a prompt without anything between them.
    Prompted {
        /// What is given.
        prompt: String,
        /// What is learnt; never nothing.
        completion: String,
    },
    /// A chat, whose text is its template's affair.
    Chat(Chat),
}

impl Document {
    /// Its parts, in order.
    fn parts(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::Prompted { prompt, completion } => vec![prompt, completion],
            Self::Chat(chat) => {
                let said = |message: &'_ Message| [message.role.name()];
                let parts = chat.messages.iter();
                parts.flat_map(|one| said(one).into_iter().chain([&*one.content])).collect()
            }
        }
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn size(&self) -> usize {
        let messages = if let Self::Chat(chat) = self { chat.messages.len() } else { 0 };
        let letters: usize = self.parts().into_iter().map(str::len).sum();
        letters + messages * size_of::<Message>() + size_of::<Self>()
    }
}

impl Row for Document {
    const NOUN: &'static str = "document";

    fn digest(&self, digest: &mut crc32fast::Hasher) {
        digest_parts(self.parts(), digest);
        if let Self::Chat(chat) = self {
            digest.update(&(chat.completion as u64).to_le_bytes());
        }
    }
}

/// Documents.
pub type Documents = Rows<Document>;

impl Documents {
    /// Whether one of them is a chat, so that a template is needed.
    pub fn have_chats(&self) -> bool {
        self.rows.iter().any(|row| matches!(row, Document::Chat(_)))
    }

    /// About how many bytes they take in memory.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(Document::size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(completion: usize) -> Document {
        let say = |role, content: &str| Message { role, content: content.to_owned() };
        let messages = vec![say(Role::User, "a"), say(Role::Assistant, "b")];
        Document::Chat(Chat { messages, completion })
    }

    #[test]
    fn documents_are_chosen_and_told_apart() {
        let text = Document::Text("ab".to_owned());
        let parts = |prompt: &str, completion: &str| Document::Prompted {
            prompt: prompt.to_owned(),
            completion: completion.to_owned(),
        };
        let rows = vec![text, parts("a", "b"), parts("", "ab"), chat(0), chat(1)];
        let all = Documents::new(rows.clone()).unwrap();
        assert!(all.have_chats() && !all.clone().take(3).have_chats());
        assert_eq!(all.select(&[4, 0]).unwrap().all(), [rows[4].clone(), rows[0].clone()]);
        assert_eq!((all.with(&all).len(), all.clone().take(0).len()), (10, 1));
        assert!(all.select(&[5]).is_err() && Documents::new(Vec::new()).is_err());
        let mut sums: Vec<u32> =
            rows.into_iter().map(|row| Documents::new(vec![row]).unwrap().digest()).collect();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), 5, "no two are alike");
    }

    #[test]
    fn roles_have_the_names_of_both_kinds_of_files() {
        for (name, role) in [("human", Role::User), ("gpt", Role::Assistant), ("tool", Role::Tool)]
        {
            assert_eq!(Role::of(name), Some(role));
            assert_eq!(Role::of(role.name()), Some(role));
        }
        assert_eq!(Role::of("User"), None);
    }
}
