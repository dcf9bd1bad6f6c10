/* A plugin of qemu: how many instructions a program ran, written at its end. The few declarations
   of qemu-plugin.h that it needs, which Debian has no package of. */
#include <inttypes.h>
#include <stdio.h>

typedef uint64_t Id;
void qemu_plugin_register_vcpu_tb_trans_cb(Id, void (*)(Id, void*));
void qemu_plugin_register_vcpu_tb_exec_inline(void*, int, void*, uint64_t);
void qemu_plugin_register_atexit_cb(Id, void (*)(Id, void*), void*);
size_t qemu_plugin_tb_n_insns(const void*);
void qemu_plugin_outs(const char*);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
static uint64_t count;

static void translated(Id id, void* block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &count, qemu_plugin_tb_n_insns(block));
}

static void ended(Id id, void* nothing) {
    char line[40];
    (void)id, (void)nothing;
    snprintf(line, sizeof line, "%" PRIu64 "\n", count);
    qemu_plugin_outs(line);
}

int qemu_plugin_install(Id id, const void* about, int argc, char** argv) {
    (void)about, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
