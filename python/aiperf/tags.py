"""The tags of all built-in metrics, known without numpy: options are checked against them before anything heavy is imported.

A row a metric, in the order of the console: tag, header, unit (`aiperf.units`), row number in its table (`-`: in the files only),
how time slices count it, and `streaming` where it exists only with a streamed response. The number places third parties'
metrics between ours. Tags and headers are AIPerf's where it has the metric.

How slices count: ended: statistics over the requests that ended in the slice; sum: the sum over them of the metric that the tag
names behind `total_`; counted: by a rule of its own in `metrics.slices`; gaps: over the gaps that ended in it; time: over its time;
`-`: not at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from aiperf.units import UNITS, Unit

__all__ = ["TABLE_TITLES", "TAGS", "SliceRule", "TableName", "Tag"]

TableName = Literal["main", "effective", "active", "usage", "http", "speculation", "energy", "server"]
TABLE_TITLES: Final[dict[TableName, str]] = {
    "main": "The table",
    "effective": "Over time (whole run)",
    "active": "Over time (while busy)",
    "usage": "Counted by the server",
    "http": "HTTP phases",
    "speculation": "Speculative decoding",
    "energy": "GPU energy",
    "server": "Single requests, by the server",
}
SliceRule = Literal["ended", "sum", "counted", "gaps", "time", "-"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """`order`: row in the table `table` on the console, None hides it there."""

    tag: str
    header: str
    unit: Unit
    order: int | None
    slices: SliceRule
    table: TableName = "main"
    needs_streaming: bool = False


_ROWS: Final = """
[main]
time_to_first_token                          Time to First Token                          ns                100  ended    streaming
network_adjusted_time_to_first_token         Network-Adjusted Time to First Token         ns                101  ended    streaming
time_to_second_token                         Time to Second Token                         ns                200  ended    streaming
time_to_first_output_token                   Time to First Output Token                   ns                210  ended    streaming
network_adjusted_time_to_first_output_token  Network-Adjusted Time to First Output Token  ns                211  ended    streaming
request_latency                              Request Latency                              ns                300  ended
network_adjusted_request_latency             Network-Adjusted Request Latency             ns                301  ended
network_rtt                                  Network RTT                                  ns                305  -
video_inference_time                         Video Inference Time                         ns                 310  ended
video_peak_memory                            Video Peak Memory                            MB                 311  ended
decode_duration                              Decode Duration                              ns                350  ended    streaming
inter_token_latency                          Inter Token Latency                          ns                400  ended    streaming
full_response_inter_token_latency            Full Response Inter Token Latency            ns                  -  ended    streaming
output_token_throughput_per_user             Output Token Throughput Per User             tokens/sec/user   500  ended    streaming
e2e_normalized_interactivity_p75             E2E Normalized Interactivity P75             tokens/sec/user     -  -
e2e_normalized_interactivity_p90             E2E Normalized Interactivity P90             tokens/sec/user     -  -
e2e_output_token_throughput                  E2E Output Token Throughput                  tokens/sec/user   510  ended
output_sequence_length                       Output Sequence Length                       tokens            600  ended
input_sequence_length                        Input Sequence Length                        tokens            700  ended
output_token_throughput                      Output Token Throughput                      tokens/sec        800  counted
input_token_throughput                       Input Token Throughput                       tokens/sec        805  counted
rtfx                                         Inverse Real-Time Factor (RTFx)              ratio              850  ended
image_throughput                             Image Throughput                             images/sec         860  ended
image_latency                                Image Latency                                ms/image           861  ended
audio_duration                               Audio Duration                               ns_as_sec          870  ended
num_images                                   Number of Images                             images               -  ended
request_throughput                           Request Throughput                           requests/sec      900  counted
goodput                                      Goodput                                      requests/sec     1000  counted
theoretical_prefix_cache_hit                 Theoretical Prefix Cache Hit                 %                1065  -
completed_request_count                      Completed Requests (Success + Error)         requests         1075  counted
request_error_rate                           Request Error Rate                           %                1080  counted
request_count                                Request Count                                requests         1100  counted
adj_time_to_first_token                      Time to First Token (error-adjusted)         ns               2000  ended    streaming
adj_request_latency                          Request Latency (error-adjusted)             ns               2010  ended
adj_decode_duration                          Decode Duration (error-adjusted)             ns               2020  ended    streaming
adj_inter_token_latency                      Inter Token Latency (error-adjusted)         ns               2030  ended    streaming
good_request_count                           Good Request Count                           requests            -  counted
good_request_fraction                        GoodRequestFraction                          ratio               -  counted
error_request_count                          Error Request Count                          requests            -  counted
cancelled_request_count                      Cancelled Request Count                      requests            -  counted
context_overflow_count                       Context Overflow Count                       requests            -  counted
skipped_context_overflow_count               Skipped Context Overflow Count               requests            -  -
error_isl                                    Error Input Sequence Length                  tokens              -  ended
total_error_isl                              Total Error Input Sequence Length            tokens              -  counted
output_token_count                           Output Token Count                           tokens              -  ended
reasoning_token_count                        Reasoning Token Count                        tokens              -  ended
first_chunk_tokens                           First Chunk Tokens                           tokens              -  ended    streaming
tokens_per_chunk                             Tokens per Chunk                             tokens              -  ended    streaming
thinking_efficiency                          Thinking Efficiency                          ratio               -  -
overall_thinking_efficiency                  Overall Thinking Efficiency                  ratio               -  -
total_osl                                    Total Output Sequence Length                 tokens              -  counted
total_isl                                    Total Input Sequence Length                  tokens              -  counted
total_output_tokens                          Total Output Tokens                          tokens              -  counted
total_reasoning_tokens                       Total Reasoning Tokens                       tokens              -  -
requested_osl                                Requested OSL                                tokens              -  -
osl_mismatch_diff_pct                        OSL Mismatch Diff %                          %                   -  ended
osl_mismatch_count                           OSL Mismatch Count                           requests            -  counted
missed_length_count                          Missed Length Count                          requests            -  -
usage_prompt_tokens_diff_pct                 Usage Prompt Diff %                          %                   -  ended
usage_completion_tokens_diff_pct             Usage Completion Diff %                      %                   -  ended
usage_reasoning_tokens_diff_pct              Usage Reasoning Diff %                       %                   -  ended
usage_discrepancy_count                      Usage Discrepancy Count                      requests            -  counted
user_space_time_to_first_token               Time to First Token (User Space)             ns                  -  ended    streaming
time_per_decoded_token                       Time per Decoded Token                       ns                  -  ended    streaming
inter_chunk_latency                          Inter Chunk Latency                          ns                  -  gaps     streaming
credit_to_start_latency                      Credit-to-Start Latency                      ns                  -  ended
credit_drop_latency                          Credit Drop Latency                          ns                  -  -
longest_stall                                Longest Stall                                ns                  -  ended    streaming
stream_setup_latency                         Stream Setup Latency                         ns                  -  -        streaming
stream_prefill_latency                       Stream Prefill Latency                       ns                  -  -        streaming
replay_sched_lag_p50                         Replay Schedule Lag p50                      ns                  -  -
replay_sched_lag_p90                         Replay Schedule Lag p90                      ns                  -  -
replay_sched_lag_p99                         Replay Schedule Lag p99                      ns                  -  -
replay_sched_degraded                        Replay Schedule Degraded                     count               -  -
prefill_throughput_per_user                  Prefill Throughput Per User                  tokens/sec/user     -  ended    streaming
benchmark_duration                           Benchmark Duration                           ns_as_sec           -  counted
min_request_timestamp                        Minimum Request Timestamp                    timestamp           -  -
max_response_timestamp                       Maximum Response Timestamp                   timestamp           -  -
total_token_throughput                       Total Token Throughput                       tokens/sec          -  counted
[effective]
effective_concurrency                        Effective Concurrency                        requests           10  time
effective_decode_throughput                  Effective Decode Throughput                  tokens/sec         20  time
effective_prefill_throughput                 Effective Prefill Throughput                 tokens/sec         30  time
effective_decode_concurrency                 Effective Decode Concurrency                 requests           40  time
effective_prefill_concurrency                Effective Prefill Concurrency                requests           50  time
effective_total_throughput                   Effective Total Throughput                   tokens/sec         60  time
effective_decode_throughput_per_user         Effective Decode Throughput Per User         tokens/sec/user    70  time
effective_prefill_throughput_per_user        Effective Prefill Throughput Per User        tokens/sec/user    80  time
tokens_in_flight                             Tokens In Flight                             tokens             90  time
effective_latency                            Effective Latency (CO-aware)                 ns                100  ended
effective_time_to_first_token                Effective Time to First Token                ns                110  ended    streaming
effective_time_to_first_output_token         Effective Time to First Output Token         ns                120  ended    streaming
[active]
active_decode_throughput                     Active Decode Throughput                     tokens/sec         10  time
active_prefill_throughput                    Active Prefill Throughput                    tokens/sec         20  time
active_decode_throughput_per_user            Active Decode Throughput Per User            tokens/sec/user    30  time
active_prefill_throughput_per_user           Active Prefill Throughput Per User           tokens/sec/user    40  time
active_total_throughput                      Active Total Throughput                      tokens/sec         50  time
[usage]
usage_prompt_tokens                          Usage Prompt Tokens                          tokens             10  ended
usage_completion_tokens                      Usage Completion Tokens                      tokens             20  ended
usage_total_tokens                           Usage Total Tokens                           tokens             30  ended
usage_reasoning_tokens                       Usage Reasoning Tokens                       tokens             40  ended
usage_prompt_cache_read_tokens               Usage Prompt Cache Read Tokens               tokens             50  ended
usage_prompt_cache_write_tokens              Usage Prompt Cache Write Tokens              tokens             51  ended
usage_prompt_cache_miss_tokens               Usage Prompt Cache Miss Tokens               tokens             52  ended
usage_prompt_audio_tokens                    Usage Prompt Audio Tokens                    tokens             60  ended
usage_completion_audio_tokens                Usage Completion Audio Tokens                tokens             61  ended
usage_tool_use_prompt_tokens                 Usage Tool Use Prompt Tokens                 tokens             62  ended
usage_accepted_prediction_tokens             Usage Accepted Prediction Tokens             tokens             63  ended
usage_rejected_prediction_tokens             Usage Rejected Prediction Tokens             tokens             64  ended
usage_prompt_audio_seconds                   Usage Prompt Audio Seconds                   sec                65  ended
total_usage_prompt_tokens                    Total Usage Prompt Tokens                    tokens            110  sum
total_usage_completion_tokens                Total Usage Completion Tokens                tokens            120  sum
total_usage_total_tokens                     Total Usage Total Tokens                     tokens            130  sum
total_usage_reasoning_tokens                 Total Usage Reasoning Tokens                 tokens            140  sum
total_usage_prompt_cache_read_tokens         Total Usage Prompt Cache Read Tokens         tokens            150  sum
total_usage_prompt_cache_write_tokens        Total Usage Prompt Cache Write Tokens        tokens            151  sum
total_usage_prompt_cache_miss_tokens         Total Usage Prompt Cache Miss Tokens         tokens            152  sum
total_usage_prompt_audio_tokens              Total Usage Prompt Audio Tokens              tokens            160  sum
total_usage_completion_audio_tokens          Total Usage Completion Audio Tokens          tokens            161  sum
total_usage_tool_use_prompt_tokens           Total Usage Tool Use Prompt Tokens           tokens            162  sum
total_usage_accepted_prediction_tokens       Total Usage Accepted Prediction Tokens       tokens            163  sum
total_usage_rejected_prediction_tokens       Total Usage Rejected Prediction Tokens       tokens            164  sum
total_usage_prompt_audio_seconds             Total Usage Prompt Audio Seconds             sec               165  sum
overall_usage_prompt_cache_read_pct          Overall Usage Prompt Cache Read %            %                 200  -
[http]
http_req_blocked                             HTTP Blocked                                 ns                 10  ended
http_req_dns_lookup                          HTTP DNS Lookup                              ns                 20  ended
http_req_connecting                          HTTP Connecting                              ns                 30  ended
http_req_tls_handshaking                     HTTP TLS Handshaking                         ns                 35  ended
http_req_sending                             HTTP Sending                                 ns                 40  ended
http_req_waiting                             HTTP Waiting (TTFB)                          ns                 50  ended
http_req_receiving                           HTTP Receiving                               ns                 60  ended
http_req_duration                            HTTP Duration (excl. conn)                   ns                 70  ended
http_req_connection_overhead                 HTTP Connection Overhead                     ns                 80  ended
http_req_total                               HTTP Total Time                              ns                 90  ended
http_req_data_sent                           HTTP Data Sent                               bytes             100  ended
http_req_data_received                       HTTP Data Received                           bytes             110  ended
http_req_chunks_sent                         HTTP Chunks Sent                             count             120  ended
http_req_chunks_received                     HTTP Chunks Received                         count             130  ended
http_req_connection_reused                   HTTP Connection Reused                       ratio             140  ended
[speculation]
spec_decode_acceptance_length                Acceptance Length                            ratio              10  ended
spec_decode_token_weighted_acceptance_length  Token-Weighted Acceptance Length             ratio              20  -
spec_decode_draft_acceptance_rate            Draft Acceptance Rate                        %                  30  ended
spec_decode_overall_draft_acceptance_rate    Overall Draft Acceptance Rate                %                  40  -
spec_decode_accepted_per_verified            Accepted per Verified                        ratio              50  ended
spec_decode_steps                            Spec Decode Steps                            count              60  ended
spec_decode_accepted_draft_tokens            Accepted Draft Tokens                        tokens              -  ended
spec_decode_draft_tokens                     Draft Tokens                                 tokens              -  ended
total_spec_decode_steps                      Total Spec Decode Steps                      count               -  sum
total_accepted_draft_tokens                  Total Accepted Draft Tokens                  tokens              -  -
total_draft_tokens                           Total Draft Tokens                           tokens              -  -
[energy]
nvidia_energy_delay_product                  Energy Delay Product                         J*s               700  -
nvidia_performance_per_watt                  Performance per Watt                         requests/sec/W    710  -
nvidia_output_tps_per_watt                   Output Tokens per Second per Watt            tokens/sec/W      712  -
nvidia_goodput_per_watt                      Goodput per Watt                             good-req/s/W     714  -
nvidia_average_gpu_power                     Average GPU Power                            W                 720  -
nvidia_total_gpu_energy                      Total GPU Energy                             J                 730  -
nvidia_total_gpu_power                       Total GPU Power                              W                 740  -
nvidia_energy_per_request                    Energy per Request                           joules/request    750  -
nvidia_energy_per_output_token               Energy per Output Token                      mJ/token          760  -
nvidia_energy_per_total_token                Energy per Total Token                       mJ/token          770  -
nvidia_output_tokens_per_joule               Output Tokens per Joule                      tokens/J          780  -
nvidia_energy_per_user                       Energy per User                              joules/user       790  -
amd_energy_delay_product                     Energy Delay Product                         J*s               800  -
amd_performance_per_watt                     Performance per Watt                         requests/sec/W    810  -
amd_output_tps_per_watt                      Output Tokens per Second per Watt            tokens/sec/W      812  -
amd_goodput_per_watt                         Goodput per Watt                             good-req/s/W     814  -
amd_average_gpu_power                        Average GPU Power                            W                 820  -
amd_total_gpu_energy                         Total GPU Energy                             J                 830  -
amd_total_gpu_power                          Total GPU Power                              W                 840  -
amd_energy_per_total_token                   Energy per Total Token                       mJ/token          845  -
amd_energy_per_output_token                  Energy per Output Token                      mJ/token          850  -
amd_energy_per_request                       Energy per Request                           joules/request    855  -
amd_output_tokens_per_joule                  Output Tokens per Joule                      tokens/J          860  -
amd_energy_per_user                          Energy per User                              joules/user       865  -
[server]
server_queue_time                            Server Queue Time                            ns                 10  ended
server_prefill_time                          Server Prefill Time                          ns                 20  ended
server_time_to_first_token                   Server Time to First Token                   ns                 25  ended
server_decode_time                           Server Decode Time                           ns                 30  ended
server_total_time                            Server Total Time                            ns                 40  ended
outside_server_time                          Time outside the Server                      ns                 50  ended
"""


def _parse(text: str) -> dict[str, Tag]:
    rules, tables = {r: r for r in get_args(SliceRule)}, {t: t for t in get_args(TableName)}
    tags: dict[str, Tag] = {}
    table: TableName = "main"
    for line in text.strip().splitlines():
        if line.startswith("["):
            table = tables[line.strip("[]")]
            continue
        tag, header, unit, order, slices, *streaming = re.split(r" {2,}", line.rstrip())
        tags[tag] = Tag(
            tag=tag,
            header=header,
            unit=UNITS[unit],
            order=None if order == "-" else int(order),
            slices=rules[slices],
            table=table,
            needs_streaming=streaming == ["streaming"],
        )
    return tags


TAGS: Final = _parse(_ROWS)
"""By tag, in the order of the console."""
