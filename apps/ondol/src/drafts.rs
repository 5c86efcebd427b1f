//! Which model guesses for which: `--draft-model` and `ONDOL_DRAFT_MODEL`, and the source of models that says so to the
//! engine. `NAME` guesses for every model that it fits; `MODEL=NAME` for that one, which then does not run without it.

use std::sync::Arc;

use contract::GenerateError;
use engine::{DraftModel, LocatedModel, ModelSource, PackedStore};

use crate::assemble::is_file_name;

/// The draft models that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Drafts(Vec<Choice>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    /// `None`: every model that it fits.
    model: Option<String>,
    draft: String,
}

impl Drafts {
    /// `NAME`, `MODEL=NAME`, or several with commas between.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let choice = |item: &str| {
            let (model, draft) = match item.split_once('=') {
                Some((model, draft)) => (Some(model.trim()), draft.trim()),
                None => (None, item.trim()),
            };
            let sound = !draft.is_empty() && model.is_none_or(|model| !model.is_empty());
            sound.then(|| Choice { model: model.map(str::to_owned), draft: draft.to_owned() })
        };
        text.split(',').map(choice).collect::<Option<Vec<_>>>().map(Self)
    }

    /// One draft model for one model.
    pub(crate) fn for_one(model: &str, draft: &str) -> Self {
        Self(vec![Choice { model: Some(model.to_owned()), draft: draft.to_owned() }])
    }

    /// The draft models' names, files among them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|choice| choice.draft.as_str())
    }

    /// None were asked for.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any is looked up by its name.
    pub(crate) fn need_a_store(&self) -> bool {
        self.names().any(|name| !is_file_name(name))
    }
}

/// Models with the draft models that are to guess for them.
pub(crate) struct Drafted {
    pub source: Arc<dyn ModelSource>,
    /// Where the names of draft models are looked up.
    pub names: Arc<dyn ModelSource>,
    pub drafts: Drafts,
}

impl Drafted {
    /// A draft model's name and file.
    fn find(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        if is_file_name(name) { Ok(LocatedModel::bare(name, name)) } else { self.names.locate(name) }
    }

    /// The choice for a model: its own goes first.
    fn choice(&self, located: &LocatedModel) -> Option<&Choice> {
        let is_it = |model: &str| {
            model == located.name || self.source.locate(model).is_ok_and(|same| same.name == located.name)
        };
        let own = |choice: &&Choice| choice.model.as_deref().is_some_and(is_it);
        self.drafts.0.iter().find(own).or_else(|| self.drafts.0.iter().find(|choice| choice.model.is_none()))
    }

    fn draft(&self, located: &LocatedModel) -> Result<Option<DraftModel>, GenerateError> {
        let Some(choice) = self.choice(located) else { return Ok(None) };
        let required = choice.model.is_some();
        match self.find(&choice.draft) {
            // Nobody guesses for itself, unless told to.
            Ok(found) if !required && found.path == located.path => Ok(None),
            Ok(found) => Ok(Some(DraftModel { name: found.name, path: found.path, required })),
            Err(error) if required => Err(GenerateError::Load {
                model: located.name.clone(),
                message: format!("its draft model '{}' cannot be found: {error}", choice.draft),
            }),
            Err(error) => {
                tracing::warn!(model = located.name, draft = choice.draft, %error, "no draft model guesses");
                Ok(None)
            }
        }
    }
}

impl ModelSource for Drafted {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        let mut located = self.source.locate(name)?;
        located.draft = self.draft(&located)?;
        Ok(located)
    }

    fn packed(&self) -> Option<Arc<dyn PackedStore>> {
        self.source.packed()
    }

    fn kept_pages(&self) -> Option<Arc<dyn engine::PageStore>> {
        self.source.kept_pages()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `large`, `small` and `tiny`, each also as `….latest`.
    struct Names;

    impl ModelSource for Names {
        fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
            let short = name.trim_end_matches(".latest");
            match ["large", "small", "tiny"].contains(&short) {
                true => Ok(LocatedModel::bare(format!("{short}.latest"), short)),
                false => Err(GenerateError::ModelNotFound { model: name.to_owned() }),
            }
        }
    }

    /// The draft model of a model, and whether it is required; `Err`: the model is not loaded.
    fn check(drafts: &str, model: &str, expected: Result<Option<(&str, bool)>, ()>) {
        let drafts = Drafts::parse(drafts).expect("parses");
        let drafted = Drafted { source: Arc::new(Names), names: Arc::new(Names), drafts };
        let found = drafted.locate(model).map(|located| located.draft);
        let found = found.map(|draft| draft.map(|draft| (draft.name, draft.required))).map_err(drop);
        let expected = expected.map(|draft| draft.map(|(name, required)| (name.to_owned(), required)));
        assert_eq!(found, expected, "{model}");
    }

    #[test]
    fn who_guesses_for_whom() {
        check("tiny", "large", Ok(Some(("tiny.latest", false))));
        check("tiny", "tiny", Ok(None));
        check("tiny=tiny", "tiny", Ok(Some(("tiny.latest", true))));
        check("tiny,large=small", "large.latest", Ok(Some(("small.latest", true))));
        check("tiny,large.latest=small", "large", Ok(Some(("small.latest", true))));
        check("tiny,large=small", "small", Ok(Some(("tiny.latest", false))));
        check("large=small", "tiny", Ok(None));
        check("./x.gguf", "tiny", Ok(Some(("./x.gguf", false))));
        check("nothing", "tiny", Ok(None));
        check("tiny=nothing", "tiny", Err(()));
        check("tiny", "nothing", Err(()));
    }

    #[test]
    fn what_cannot_be_meant() {
        for text in ["", "a=", "=a", "a,,b", "a,"] {
            assert_eq!(Drafts::parse(text), None, "{text:?}");
        }
        assert_eq!(Drafts::parse("a=b"), Some(Drafts::for_one("a", "b")));
        assert!(Drafts::for_one("a", "b").need_a_store() && !Drafts::for_one("a", "./b.gguf").need_a_store());
    }
}
