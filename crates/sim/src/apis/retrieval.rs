//! NVIDIA NIM's object detection for retrieval: `/v1/infer`, images in, boxes out.

use serde_json::{Value, json};

use crate::api::{Api, Facts, Results, Streams, Voice};

#[derive(Debug)]
pub(crate) struct Infer;

impl Api for Infer {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/infer").then_some(Streams::Never)
    }

    fn needs(&self) -> &'static str {
        "input"
    }

    fn generates(&self) -> bool {
        false
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        let images = facts.ask.prompt().parts.max(1);
        let found = json!({"x_min": 0.1, "y_min": 0.2, "x_max": 0.8, "y_max": 0.9, "confidence": 0.97});
        let data: Vec<Value> = (0..images)
            .map(|index| json!({"index": index, "bounding_boxes": {"chart": [found]}}))
            .collect();
        let body = json!({"data": data, "usage": {"images_size_mb": f64::from(images) * 0.1}});
        Box::new(Results(body.to_string()))
    }
}
