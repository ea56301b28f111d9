/* Runs in long mode on the emulated machine: reads the payload from the disk, makes its calls, writes the outputs to the
 * parallel port, which the emulator keeps as a file, and powers off. */
#include <stdint.h>

enum { PAYLOAD_LBA = 64, SECTOR = 512 };

struct call { uint64_t args, rows; };
struct region { uint64_t address, bytes; };
struct header {
  uint64_t magic, bytes, entry, call_count, region_count;
  struct call calls[256];
  struct region regions[64];
};

static struct header *const header = (struct header *)0x1000000; /* where the payload is loaded: 16 MiB */

static inline void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static inline uint8_t in8(uint16_t port) {
  uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

static void read_sectors(uint64_t lba, uint32_t count, void *to) {
  for (; count; lba++, count--) { /* one at a time: PIO, primary bus, master */
    out8(0x1f6, 0xe0 | ((lba >> 24) & 15));
    out8(0x1f2, 1);
    out8(0x1f3, lba);
    out8(0x1f4, lba >> 8);
    out8(0x1f5, lba >> 16);
    out8(0x1f7, 0x20);
    while ((in8(0x1f7) & 0x88) != 0x08) {}
    uint64_t words = SECTOR / 2;
    __asm__ volatile("rep insw" : "+D"(to), "+c"(words) : "d"(0x1f0) : "memory");
  }
}

static void write_bytes(const uint8_t *bytes, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    out8(0x378, bytes[i]);
    out8(0x37a, 0x0d); /* strobe */
    out8(0x37a, 0x0c);
  }
}

__attribute__((section(".text.entry"))) void entry(void) {
  read_sectors(PAYLOAD_LBA, (sizeof *header + SECTOR - 1) / SECTOR, header);
  read_sectors(PAYLOAD_LBA, (header->bytes + SECTOR - 1) / SECTOR, header);
  void (*forward)(uint64_t, uint64_t, uint64_t, uint64_t) = (void *)header->entry;
  for (uint64_t i = 0; i < header->call_count; i++) forward(header->calls[i].args, header->calls[i].rows, 0, 1);
  for (uint64_t i = 0; i < header->region_count; i++)
    write_bytes((const uint8_t *)header->regions[i].address, header->regions[i].bytes);
  for (const char *s = "Shutdown"; *s; s++) out8(0x8900, *s);
  for (;;) __asm__ volatile("hlt");
}
