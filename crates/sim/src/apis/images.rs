//! Images: `/v1/images/generations` and `/v1/images/edits` (multipart). The image is a real PNG of one pixel.
//! Streams are as OpenAI's: `partial_images` previews, then the image with its usage.

use serde_json::{Value, json};

use crate::api::{Api, Facts, Outcome, Streams, Voice, Whole, Wire};
use crate::request::Ask;
use crate::script::Step;

/// A grey pixel, PNG, base64.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";
/// Tokens an image counts for, as OpenAI counts one of 1024×1024 at low quality.
const IMAGE_TOKENS: u32 = 272;

#[derive(Debug)]
pub(crate) struct Generations;

impl Api for Generations {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/images/generations").then_some(Streams::AsAsked)
    }

    fn needs(&self) -> &'static str {
        "prompt"
    }

    fn generates(&self) -> bool {
        false
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        Box::new(Painter::new(facts, "image_generation"))
    }
}

#[derive(Debug)]
pub(crate) struct Edits;

impl Api for Edits {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/images/edits").then_some(Streams::AsAsked)
    }

    fn needs(&self) -> &'static str {
        "prompt"
    }

    fn generates(&self) -> bool {
        false
    }

    fn refuses(&self, ask: &Ask<'_>) -> Option<String> {
        let is_image = |name: &str| matches!(name, "image" | "image[]" | "url" | "url[]");
        let given = ask.has_image_field || ask.files.iter().any(|(name, _)| is_image(name));
        (!given).then(|| "the form has no file `image`".to_owned())
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        Box::new(Painter::new(facts, "image_edit"))
    }
}

#[derive(Debug)]
struct Painter {
    kind: &'static str,
    as_url: bool,
    images: u32,
    partial: u32,
    size: String,
    created_s: u64,
    prompt_tokens: u32,
}

impl Painter {
    fn new(facts: &Facts<'_>, kind: &'static str) -> Self {
        Self {
            kind,
            as_url: facts.ask.as_url,
            images: facts.ask.n.unwrap_or(1).clamp(1, 10),
            partial: facts.ask.partial_images.unwrap_or(0).min(3),
            size: facts.ask.size.as_deref().unwrap_or("1024x1024").to_owned(),
            created_s: facts.created_s,
            prompt_tokens: facts.prompt_tokens,
        }
    }

    fn usage(&self) -> Value {
        let output = IMAGE_TOKENS * self.images;
        json!({
            "input_tokens": self.prompt_tokens, "output_tokens": output, "total_tokens": self.prompt_tokens + output,
            "input_tokens_details": {"text_tokens": self.prompt_tokens, "image_tokens": 0},
        })
    }

    fn event(&self, wire: &mut Wire<'_>, what: &str, more: &Value) {
        let kind = format!("{}.{what}", self.kind);
        let mut event = json!({
            "type": kind, "b64_json": PIXEL, "created_at": self.created_s, "size": self.size, "quality": "low",
            "background": "opaque", "output_format": "png",
        });
        if let (Some(event), Some(more)) = (event.as_object_mut(), more.as_object()) {
            event.extend(more.clone());
        }
        wire.event(Some(&kind), &event.to_string());
    }
}

impl Voice for Painter {
    fn step(&mut self, _wire: &mut Wire<'_>, _step: &Step, _text: &str, _last: Option<Outcome<'_>>) {}

    fn end(&mut self, wire: &mut Wire<'_>, outcome: Outcome<'_>) {
        for index in 0..self.partial {
            self.event(wire, "partial_image", &json!({"partial_image_index": index}));
        }
        let usage = outcome.usage.map_or(json!({}), |_| json!({"usage": self.usage()}));
        self.event(wire, "completed", &usage);
    }

    fn fail(&mut self, wire: &mut Wire<'_>, message: &str) {
        let error = json!({"type": "error", "error": {"type": "image_generation_server_error", "code": "server_error",
                           "message": message, "param": null}});
        wire.event(Some("error"), &error.to_string());
    }

    fn broken(&self) -> (Option<&'static str>, &'static str) {
        (
            Some("image_generation.partial_image"),
            "{\"type\":\"image_generation.partial_image\",\"b64_json\":\"iVBOR",
        )
    }

    fn whole(&mut self, _text: &Whole, outcome: Outcome<'_>) -> Vec<u8> {
        let image = if self.as_url {
            json!({"url": "/images/pixel.png"})
        } else {
            json!({"b64_json": PIXEL})
        };
        let data = vec![image; self.images as usize];
        let mut body = json!({"created": self.created_s, "size": self.size, "output_format": "png", "data": data});
        if outcome.usage.is_some() {
            body["usage"] = self.usage();
        }
        body.to_string().into_bytes()
    }
}
