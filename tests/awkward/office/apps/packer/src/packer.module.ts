import { Injectable, Module, type OnApplicationShutdown } from '@nestjs/common';
import { connection, PARCELS, type Parcel } from '@app/jobs';
import { Worker } from 'bullmq';

@Injectable()
class Packer implements OnApplicationShutdown {
  private readonly worker = new Worker<Parcel, string>(PARCELS, async (job) => `${job.data.order} is packed`, {
    connection: connection(),
  });

  async onApplicationShutdown() {
    await this.worker.close();
  }
}

@Module({ providers: [Packer] })
export class PackerModule {}
