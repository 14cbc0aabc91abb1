// Progress of a long job on standard error: one line that is rewritten on a terminal, one line per step elsewhere, nothing if quiet.
#pragma once

#include <chrono>
#include <string>

namespace caisson::microvm {

class Progress {
 public:
  explicit Progress(bool quiet);
  ~Progress();  // ends the rewritten line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // A new step: "downloading linux-image-...".
  void step(std::string text);
  // The step's share that is done, 0 to 1; below 0: unknown. Redraws a terminal's line; elsewhere a line for every tenth.
  void update(double share = -1);
  // A last line, "made /var/cache/...".
  void done(const std::string& text);

 private:
  void draw(double share);

  bool quiet_, terminal_;
  std::string text_;
  int tenths_ = 0;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

}  // namespace caisson::microvm
