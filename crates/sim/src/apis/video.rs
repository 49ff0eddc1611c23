//! Video jobs, as OpenAI and SGLang have them: `POST /v1/videos` takes a job up, `GET /v1/videos/ID` tells its state,
//! `GET /v1/videos/ID/content` gives the file. A job takes the time to first token; fault `error_in_200` lets it fail.
//!
//! All that is to be known of a job is in its id, so any thread can answer for it.

use serde_json::json;

use crate::api::{Api, Facts, Results, Streams, Voice};
use crate::timer::ms;

/// A container without frames: what an MP4 file begins with.
const MP4: &[u8] = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2\x00\x00\x00\x08free";
/// Memory a job says it took at its peak, MB.
const PEAK_MEMORY_MB: f64 = 24_576.0;

#[derive(Debug)]
pub(crate) struct Videos;

impl Api for Videos {
    fn takes(&self, path: &[u8]) -> Option<Streams> {
        (path == b"/v1/videos").then_some(Streams::Never)
    }

    fn needs(&self) -> &'static str {
        "prompt"
    }

    fn generates(&self) -> bool {
        false
    }

    fn is_job(&self) -> bool {
        true
    }

    fn voice(&self, facts: &Facts<'_>) -> Box<dyn Voice> {
        let took = ms(facts.options.ttft_ms);
        let end = if facts.fault == Some("error_in_200") { 'f' } else { 'c' };
        let id = format!("video_{end}{:016x}{took:016x}{:08x}", facts.received_ns, facts.n);
        let body = json!({
            "id": id, "object": "video", "created_at": facts.created_s, "status": "queued", "progress": 0,
            "model": facts.model, "seconds": facts.ask.seconds.as_deref().unwrap_or("4"),
            "size": facts.ask.size.as_deref().unwrap_or("720x1280"),
        });
        Box::new(Results(body.to_string()))
    }

    fn job(&self, path: &str, now_ns: u64) -> Option<(&'static str, Vec<u8>)> {
        let rest = path.strip_prefix("/v1/videos/")?;
        let (id, wants_content) = rest.strip_suffix("/content").map_or((rest, false), |id| (id, true));
        let code = id.strip_prefix("video_")?;
        let number = |from: usize| u64::from_str_radix(code.get(from..from + 16)?, 16).ok();
        let (received, took) = (number(1)?, number(17)?);
        let fails = code.starts_with('f');
        let is_over = now_ns >= received.saturating_add(took);
        if wants_content {
            return (is_over && !fails).then(|| ("video/mp4", MP4.to_vec()));
        }
        let mut body = json!({"id": id, "object": "video", "model": "sim", "error": null});
        if !is_over {
            let done = now_ns.saturating_sub(received) as f64 / took as f64;
            body["status"] = "in_progress".into();
            body["progress"] = ((done * 100.0) as u32).into();
        } else if fails {
            body["status"] = "failed".into();
            body["error"] = json!({"code": "server_error", "message": "The job has failed."});
        } else {
            body["status"] = "completed".into();
            body["progress"] = 100.into();
            body["inference_time_s"] = (took as f64 / 1e9).into();
            body["peak_memory_mb"] = PEAK_MEMORY_MB.into();
        }
        Some(("application/json", body.to_string().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_a_jobs_state_follows_from_its_id_and_the_time() {
        let id = format!("/v1/videos/video_c{:016x}{:016x}00000001", 1_000, 500);
        let status = |now: u64| {
            let (_, body) = Videos.job(&id, now).expect("a job");
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            body["status"].as_str().expect("a state").to_owned()
        };
        assert_eq!(
            (status(1_100).as_str(), status(1_500).as_str()),
            ("in_progress", "completed")
        );
        assert_eq!(Videos.job(&format!("{id}/content"), 1_400), None);
        assert!(Videos.job(&format!("{id}/content"), 1_600).is_some());
        for path in ["/v1/videos/", "/v1/videos/video_", "/v1/videos/video_cé", "/v1/models"] {
            assert_eq!(Videos.job(path, 5), None, "{path}");
        }
    }
}
