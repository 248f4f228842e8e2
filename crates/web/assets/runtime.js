// Replays a model's plans on WebGPU. Group 0 of every kernel is the same: binding 0 the launch's sizes and binding 1 the
// step state (uniforms), then what it reads and writes (storage).

/** The browser or this computer cannot compute here. */
export class NoDevice extends Error {}

const UNIFORM_ALIGNMENT = 256;

export const bytesOfBase64 = (text) =>
  Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

export class Runtime {
  #bundle;
  #layouts = new Map();
  #plans = new Map();
  #turn = Promise.resolve();
  #fault = null;

  /** Opens a device, sends it the weights, and compiles every pipeline. `lost` is called if the device is lost later. */
  static async open(bundle, weights, lost) {
    const gpu = globalThis.navigator?.gpu;
    if (!gpu) throw new NoDevice("This browser offers no WebGPU");
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) throw new NoDevice("This browser has WebGPU, but offers no graphics device for it");
    const device = await adapter.requestDevice();
    const runtime = new Runtime(bundle, adapter, device);
    device.lost.then((info) => runtime.closed || lost(info.message || info.reason));
    device.addEventListener("uncapturederror", ({ error }) => (runtime.#fault ??= error));
    await runtime.#prepare(weights);
    return runtime;
  }

  constructor(bundle, adapter, device) {
    this.#bundle = bundle;
    this.adapter = adapter;
    this.device = device;
    this.closed = false;
  }

  close() {
    this.closed = true;
    this.device.destroy();
  }

  async #prepare(weights) {
    const { STORAGE, UNIFORM, COPY_DST } = GPUBufferUsage;
    const { slots, scratch, constants, state } = this.#bundle;
    this.device.pushErrorScope("out-of-memory");
    this.segments = weights.map((bytes) => this.#buffer(bytes.byteLength, STORAGE | COPY_DST, bytes));
    this.slots = slots.map((bytes) => this.#buffer(bytes, STORAGE));
    this.constants = constants.map(bytesOfBase64).map((bytes) => this.#buffer(bytes.byteLength, STORAGE | COPY_DST, bytes));
    this.scratch = this.#buffer(scratch, STORAGE);
    this.nothing = this.#buffer(4, STORAGE);
    this.state = this.#buffer(4 * state.length, UNIFORM | COPY_DST, new Uint32Array(state));
    const begun = performance.now();
    const modules = this.#bundle.wgsl.map((code) => this.device.createShaderModule({ code }));
    const compiling = this.#bundle.pipelines.map(({ module, entry, overrides, readOnly }) =>
      this.device.createComputePipelineAsync({
        layout: this.device.createPipelineLayout({ bindGroupLayouts: [this.#layout(readOnly)] }),
        compute: { module: modules[module], entryPoint: entry, constants: Object.fromEntries(overrides) },
      }));
    this.pipelines = await Promise.all(compiling);
    this.compileTime = performance.now() - begun;
    const full = await this.device.popErrorScope();
    if (full) throw new NoDevice(`The graphics device has no room for the model (${full.message})`);
    this.#check();
  }

  #buffer(bytes, usage, content) {
    const buffer = this.device.createBuffer({ size: Math.max(4, Math.ceil(bytes / 4) * 4), usage });
    if (content) this.device.queue.writeBuffer(buffer, 0, content);
    return buffer;
  }

  #layout(readOnly) {
    const key = readOnly.join();
    if (!this.#layouts.has(key)) {
      const storage = readOnly.map((only) => (only ? "read-only-storage" : "storage"));
      const entries = ["uniform", "uniform", ...storage].map((type, binding) => (
        { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } }));
      this.#layouts.set(key, this.device.createBindGroupLayout({ entries }));
    }
    return this.#layouts.get(key);
  }

  /** A plan's own buffers and bind groups, made when it is first run. */
  #load(number) {
    const { STORAGE, UNIFORM, COPY_DST, COPY_SRC, MAP_READ } = GPUBufferUsage;
    const plan = this.#bundle.plans[number];
    const inputs = new Map();
    const buffers = plan.buffers.map((spec) => {
      if (spec.kind === "slot") return this.slots[spec.index];
      if (spec.kind === "segment") return this.segments[spec.index];
      if (spec.kind === "constant") return this.constants[spec.index];
      const buffer = this.#buffer(4 * spec.len, STORAGE | COPY_DST | COPY_SRC);
      if (spec.kind === "input") inputs.set(spec.name, buffer);
      return buffer;
    });
    let size = 0;
    const places = plan.launches.map(({ dims }) => {
      const place = size;
      size += Math.ceil(Math.max(1, 4 * dims.length) / UNIFORM_ALIGNMENT) * UNIFORM_ALIGNMENT;
      return place;
    });
    const words = new Uint32Array(size / 4);
    plan.launches.forEach(({ dims }, at) => words.set(dims, places[at] / 4));
    const dims = this.#buffer(size, UNIFORM | COPY_DST, words);
    const dispatches = plan.launches.map((launch, at) => {
      const bytes = Math.max(16, Math.ceil(launch.dims.length / 4) * 16);
      const bound = launch.bindings.map((binding) => {
        if (binding === true) return { buffer: this.scratch };
        if (binding === false) return { buffer: this.nothing };
        const [buffer, offset, size] = binding;
        return { buffer: buffers[buffer], offset, size };
      });
      const resources = [{ buffer: dims, offset: places[at], size: bytes }, { buffer: this.state }, ...bound];
      const group = this.device.createBindGroup({
        layout: this.#layout(this.#bundle.pipelines[launch.pipeline].readOnly),
        entries: resources.map((resource, binding) => ({ binding, resource })),
      });
      return { pipeline: this.pipelines[launch.pipeline], group, workgroups: launch.workgroups };
    });
    const bytes = 4 * plan.buffers[plan.output].len;
    const staging = this.#buffer(bytes, MAP_READ | COPY_DST);
    const loaded = { inputs, dispatches, output: buffers[plan.output], bytes, staging };
    this.#plans.set(number, loaded);
    return loaded;
  }

  #check() {
    if (this.#fault) throw new Error(`The graphics device refused its work: ${this.#fault.message}`);
  }

  /** Runs a plan on values by the names of its inputs, and reads its logits: one submission, one readback. */
  run(number, values) {
    const done = this.#turn.then(() => this.#run(number, values));
    this.#turn = done.catch(() => {});
    return done;
  }

  async #run(number, values) {
    const { inputs, dispatches, output, bytes, staging } = this.#plans.get(number) ?? this.#load(number);
    for (const [name, buffer] of inputs) this.device.queue.writeBuffer(buffer, 0, values[name]);
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    let current = null;
    for (const { pipeline, group, workgroups } of dispatches) {
      if (pipeline !== current) pass.setPipeline((current = pipeline));
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...workgroups);
    }
    pass.end();
    encoder.copyBufferToBuffer(output, 0, staging, 0, bytes);
    this.device.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const logits = new Float32Array(staging.getMappedRange().slice(0));
    staging.unmap();
    this.#check();
    return logits;
  }
}
