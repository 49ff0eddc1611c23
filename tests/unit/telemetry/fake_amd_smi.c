/* AMD's libamd_smi.so for two GPUs that do not exist, by the layouts of AMD's amdsmi.h (ROCm 7.0).
 * The first tells everything, the second refuses its energy counter and has no multimedia engine.
 * Functions that the Python package looks up and this file lacks are added by the test: they return "not supported". */
#include <stdint.h>
#include <string.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 2, NO_DRIVER = 34 };
typedef void *handle;
typedef struct { uint64_t socket_power; uint32_t current, average; uint64_t gfx, soc, mem; uint32_t limit; uint64_t reserved[18]; } power_t;
typedef struct { uint32_t gfx, umc, mm, reserved[13]; } usage_t;
typedef struct { uint32_t clk, min, max; uint8_t locked, deep_sleep; uint32_t reserved[4]; } clock_info_t;
typedef struct { uint64_t correctable, uncorrectable, deferred, reserved[5]; } errors_t;
typedef struct { char model_number[256], serial[256], fru_id[256], product_name[256], manufacturer[256]; uint64_t reserved[64]; } board_t;

static int reads;
static int index_of(handle gpu) { return (int)(intptr_t)gpu - 100; }

int amdsmi_init(uint64_t flags) { (void)flags; return FAKE_STATUS; }
int amdsmi_shut_down(void) { return SUCCESS; }
int amdsmi_get_socket_handles(uint32_t *count, handle *sockets) {
    if (sockets) for (uint32_t i = 0; i < *count; i++) sockets[i] = (handle)(intptr_t)(i + 10);
    *count = FAKE_GPUS;
    return SUCCESS;
}
int amdsmi_get_processor_handles(handle socket, uint32_t *count, handle *gpus) {
    if (gpus) gpus[0] = (handle)((intptr_t)socket + 90);
    *count = 1;
    return SUCCESS;
}
int amdsmi_get_power_info(handle gpu, power_t *out) {
    memset(out, 0, sizeof *out);
    out->socket_power = index_of(gpu) ? 0xFFFF : 700;
    out->current = 650;
    out->average = 0xFFFF;
    return SUCCESS;
}
/* Ticks of 15.259 µJ: 700 W for a second are 45.9 million of them. */
int amdsmi_get_energy_count(handle gpu, uint64_t *ticks, float *resolution, uint64_t *at) {
    if (index_of(gpu)) return NOT_SUPPORTED;
    *ticks = 1000000000ull * (uint64_t)++reads;
    *resolution = 15.25f;
    *at = 0;
    return SUCCESS;
}
int amdsmi_get_gpu_activity(handle gpu, usage_t *out) {
    memset(out, 0, sizeof *out);
    out->gfx = 97;
    out->umc = 41;
    out->mm = index_of(gpu) ? 0xFFFF : 3;
    return SUCCESS;
}
int amdsmi_get_gpu_memory_usage(handle gpu, uint32_t kind, uint64_t *used) {
    (void)gpu;
    *used = kind == 0 ? 180000000000ull : 1;
    return SUCCESS;
}
/* °C × 1000, as amdsmi.h says; an MI300 has no edge sensor (0), its junction is 1. */
int amdsmi_get_temp_metric(handle gpu, uint32_t sensor, uint32_t metric, int64_t *out) {
    if (sensor != 1 || metric != 0) return NOT_SUPPORTED;
    *out = 71000 + 1000 * index_of(gpu);
    return SUCCESS;
}
int amdsmi_get_clock_info(handle gpu, uint32_t kind, clock_info_t *out) {
    (void)gpu;
    memset(out, 0, sizeof *out);
    out->clk = kind == 0 ? 2100 : kind == 4 ? 1300 : UINT32_MAX;
    return SUCCESS;
}
int amdsmi_get_gpu_total_ecc_count(handle gpu, errors_t *out) {
    memset(out, 0, sizeof *out);
    out->uncorrectable = (uint64_t)index_of(gpu);
    return SUCCESS;
}
int amdsmi_get_gpu_device_uuid(handle gpu, uint32_t *length, char *out) {
    static const char *uuids[] = {"c4ff74a1-0000-1000-8076-5d1dd7b1f5a1", "aaff74a1-0000-1000-8076-5d1dd7b1f5a1"};
    strncpy(out, uuids[index_of(gpu)], *length);
    return SUCCESS;
}
int amdsmi_get_gpu_board_info(handle gpu, board_t *out) {
    (void)gpu;
    memset(out, 0, sizeof *out);
    strcpy(out->product_name, "AMD Instinct MI300X OAM");
    return SUCCESS;
}
