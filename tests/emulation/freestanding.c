/* What compiled kernels may call from the C library. */
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t n) {
  char *d = to;
  const char *s = from;
  while (n--) *d++ = *s++;
  return to;
}

void *memmove(void *to, const void *from, size_t n) {
  char *d = to;
  const char *s = from;
  if (d < s) return memcpy(to, from, n);
  while (n--) d[n] = s[n];
  return to;
}

void *memset(void *to, int value, size_t n) {
  char *d = to;
  while (n--) *d++ = value;
  return to;
}

int sched_yield(void) { return 0; }
