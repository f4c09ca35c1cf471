//! The model services that are spoken to, and what each is called by: variables, addresses, ways of speaking.

/// How a service wants to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Chat completions, of OpenAI and of many servers besides.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
    /// Ollama's own chat.
    Ollama,
}

/// A service as Langflow's model selection names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    OpenAi,
    OpenRouter,
    Anthropic,
    Ollama,
}

impl Provider {
    const ALL: [Self; 4] = [Self::OpenAi, Self::OpenRouter, Self::Anthropic, Self::Ollama];

    /// By the name in a flow, in any case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let is_called = |provider: &Self| provider.name().eq_ignore_ascii_case(name.trim());
        Self::ALL.into_iter().find(is_called)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::OpenRouter => "OpenRouter",
            Self::Anthropic => "Anthropic",
            Self::Ollama => "Ollama",
        }
    }

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::OpenAi | Self::OpenRouter => Protocol::OpenAi,
            Self::Anthropic => Protocol::Anthropic,
            Self::Ollama => Protocol::Ollama,
        }
    }

    /// The variable that holds the key; none where none is sent.
    pub(crate) fn key_variable(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("OPENAI_API_KEY"),
            Self::OpenRouter => Some("OPENROUTER_API_KEY"),
            Self::Anthropic => Some("ANTHROPIC_API_KEY"),
            Self::Ollama => None,
        }
    }

    /// Variables that may hold the server's address, the first one that does counts.
    pub(super) fn base_variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
            Self::OpenRouter => &[],
            Self::Anthropic => &["ANTHROPIC_API_URL", "ANTHROPIC_BASE_URL"],
            Self::Ollama => &["OLLAMA_BASE_URL"],
        }
    }

    /// The one of them that users are told of.
    pub(super) fn base_variable(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("OPENAI_BASE_URL"),
            Self::OpenRouter => None,
            Self::Anthropic => Some("ANTHROPIC_BASE_URL"),
            Self::Ollama => Some("OLLAMA_BASE_URL"),
        }
    }

    /// The server that is asked when nothing else is said.
    pub(super) fn default_base(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::OpenRouter => "https://openrouter.ai/api/v1",
            Self::Anthropic => "https://api.anthropic.com",
            Self::Ollama => "http://localhost:11434",
        }
    }

    /// Where chats are, below a server's address.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::OpenAi | Self::OpenRouter => "chat/completions",
            Self::Anthropic => "v1/messages",
            Self::Ollama => "api/chat",
        }
    }

    /// Whether streams are asked to end with a count of tokens.
    pub(super) fn asks_for_usage(self) -> bool {
        self == Self::OpenAi
    }

    /// Headers whose values are variables.
    pub(super) fn attribution(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::OpenRouter => &[
                ("http-referer", "OPENROUTER_SITE_URL"),
                ("x-title", "OPENROUTER_APP_NAME"),
            ],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_found_by_name() {
        for provider in Provider::ALL {
            assert_eq!(Provider::named(provider.name()), Some(provider));
            let told = provider.base_variable();
            assert!(told.is_none_or(|told| provider.base_variables().contains(&told)));
        }
        assert_eq!(Provider::named(" anthropic "), Some(Provider::Anthropic));
        for other in ["Groq", "Azure OpenAI", "IBM WatsonX", ""] {
            assert_eq!(Provider::named(other), None, "{other}");
        }
    }
}
